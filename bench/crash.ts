// Kills training and both arms of forget at random moments: npx tsx bench/crash.ts [50] [seed]. Ends with how many came out the same.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RandomStream } from '../lib/philox.js'
import { CrashRounds, phases } from './crash/rounds.js'

const [count = '50', seed = '1'] = process.argv.slice(2)
const root = mkdtempSync(join(tmpdir(), 'palimpsest-crash-'))
const random = new RandomStream(Number(seed), 0)
const rounds = new CrashRounds(root)
await rounds.prepare()
const found: Record<string, number> = {}
let [kills, same] = [0, 0]
for (let tries = 0; kills < Number(count) && tries < 4 * Number(count); tries++) {
  const phase = phases[kills % phases.length]
  const round = await rounds.round(phase, random.next() / 2 ** 32, tries % 5 === 4 ? 'pool' : 'here')
  if (!round.inTime) continue
  kills++
  same += Number(round.same)
  const name = `${phase}: ${round.found}`
  found[name] = (found[name] ?? 0) + 1
  if (!round.same) console.log('other bits', round)
}
console.log(found)
console.log(`${kills} killed, ${same} with the same bits at the end`)
rmSync(root, { recursive: true })
process.exitCode = same === kills && kills === Number(count) ? 0 : 1
