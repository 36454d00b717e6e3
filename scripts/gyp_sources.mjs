// Prints what binding.gyp compiles of native/sources.txt: the portable kernels, with the stand-ins for the others.
import { readFileSync } from 'node:fs'

const left = /(^|\/)cpu\/onednn[^/]*$|_avx(2|512)\.cpp$/
const sources = readFileSync(new URL('../native/sources.txt', import.meta.url), 'utf8')
  .split('\n')
  .map((line) => line.trim())
  .filter((line) => line !== '' && !line.startsWith('#') && !left.test(line))
console.log(sources.map((line) => `native/${line}`).join('\n'))
