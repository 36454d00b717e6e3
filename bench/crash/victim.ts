// A process that trains or forgets and is killed meanwhile: victim.ts fit|forget|direct FOLDER here|pool.
import { PalimpsestError } from '../../lib/index.js'
import { runnerOf, work } from './setup.js'

const [phase, folder, runner] = process.argv.slice(2)
process.send?.('begun')
try {
  await work(phase, folder, runnerOf(runner))
  console.log('done')
} catch (error) {
  console.log(error instanceof PalimpsestError ? error.code : String(error))
  process.exitCode = 1
}
process.disconnect?.()
