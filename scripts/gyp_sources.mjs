// Prints what binding.gyp compiles: native/sources.txt's portable kernels, and the stand-ins for what it leaves out.
import { readFileSync } from 'node:fs'

const left = /(^|\/)cpu\/onednn[^/]*$|_avx(2|512)\.cpp$|kernels_amx\.cpp$|^cuda\/(?!no_cuda\.cpp$)/
const sources = ['native', 'cuda'].flatMap((folder) =>
  readFileSync(new URL(`../${folder}/sources.txt`, import.meta.url), 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => `${folder}/${line}`)
    .filter((path) => !left.test(path)),
)
console.log(sources.join('\n'))
