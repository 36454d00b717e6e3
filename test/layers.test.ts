// Layering, read off #include lines under native/ and imports under lib/: lower never includes upper.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

// What each native folder may include beside itself.
const nativeLayers: Record<string, string[]> = {
  core: [],
  backend: ['core'],
  cpu: ['core', 'backend'],
  cuda: ['core', 'backend'],
  ops: ['core', 'backend'],
  graph: ['core', 'backend', 'ops'],
  curvature: ['core', 'backend', 'ops', 'graph'],
  unlearn: ['core', 'backend', 'ops', 'graph', 'curvature'],
  train: ['core', 'backend', 'ops', 'graph', 'curvature'],
  binding: ['core', 'backend', 'cpu', 'ops', 'graph', 'curvature', 'unlearn', 'train'],
}

// Headers that one layer alone may know.
const guarded: { header: RegExp; layer: string }[] = [
  { header: /^(napi|node_api|js_native_api)(-inl)?\.h$/, layer: 'binding' },
  { header: /^(oneapi\/)?dnnl[_a-z]*(\/|\.hp?p?$)/, layer: 'cpu' },
  { header: /^cu(da|blas|dnn|solver|rand|sparse)[_A-Za-z0-9]*(\/|\.h$)/, layer: 'cuda' },
]

// The order of lib/: a file imports from its own group or from one before. What is in no list stands with the models.
const libLayers = [
  ['errors'],
  ['options', 'philox'],
  ['network'],
  ['native'],
  ['networks'],
  ['onnx'],
  ['model', 'tangent', 'dataset', 'data'],
  ['fit', 'forget', 'scrub', 'bound', 'audit', 'record', 'jobs', 'ensemble', 'estimate', 'piggyback'],
  ['index'],
  ['cli'],
]
const modelLayer = libLayers.findIndex((layer) => layer.includes('model'))

/** What is wrong with a file of native/ or cuda/, e.g. `native/graph/x.h`. */
function nativeFaults(file: string, text: string): string[] {
  const layer = file.startsWith('cuda/') ? 'cuda' : file.split('/')[1]
  const allowed = nativeLayers[layer]
  if (allowed === undefined) return [`${file}: folder ${layer} has no place in the layers`]
  const headers = [...text.matchAll(/^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]/gm)]
  return headers.flatMap(([, , header]) => {
    if (header.startsWith('.')) return [`${file} includes ${header}: name headers from native/ on`]
    const guard = guarded.find((entry) => entry.header.test(header))
    if (guard !== undefined && guard.layer !== layer) return [`${file} includes ${header}: only ${guard.layer} may`]
    const other = header.split('/')[0]
    const up = header.includes('/') && other in nativeLayers && other !== layer && !allowed.includes(other)
    return up ? [`${file} includes ${header}: ${layer} may not include ${other}`] : []
  })
}

function libLayer(file: string): number {
  const top = file.split('/')[1].replace(/\.[cm]?[jt]s$/, '')
  const found = libLayers.findIndex((layer) => layer.includes(top))
  return found < 0 ? modelLayer : found
}

/** What is wrong with a file of lib/, e.g. `lib/forget.ts`. */
function libFaults(file: string, text: string): string[] {
  const faults: string[] = []
  if (/\.node['"`]/.test(text) && file !== 'lib/native.ts')
    faults.push(`${file} names the addon: only lib/native.ts may`)
  const imports = text.matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)['"](\.[^'"]*)['"]/g)
  for (const [, path] of imports) {
    const target = posix.normalize(posix.join(posix.dirname(file), path))
    if (!target.startsWith('lib/')) faults.push(`${file} imports ${path}: outside lib`)
    else if (libLayer(target) > libLayer(file)) faults.push(`${file} imports ${path}: points up`)
  }
  return faults
}

function filesUnder(folder: string, wanted: RegExp): string[] {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true })
    .map((file) => `${folder}/${String(file).replaceAll('\\', '/')}`)
    .filter((file) => wanted.test(file))
}

const read = (file: string) => readFileSync(join(root, file), 'utf8')
const cxx = /\.(h|cpp|inc|cuh?)$/

describe('layers', () => {
  it('under native/ nothing includes what is above it', () => {
    const files = [...filesUnder('native', cxx), ...filesUnder('cuda', cxx)]
    expect(files.length).toBeGreaterThan(0)
    expect(files.flatMap((file) => nativeFaults(file, read(file)))).toEqual([])
  })

  it('under lib/ nothing imports what is above it', () => {
    const files = filesUnder('lib', /\.ts$/)
    expect(files.length).toBeGreaterThan(0)
    expect(files.flatMap((file) => libFaults(file, read(file)))).toEqual([])
  })

  it('every native source is listed once, and exists', () => {
    for (const folder of ['native', 'test/native']) {
      const listed = read(`${folder}/sources.txt`)
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== '' && !line.startsWith('#'))
        .map((line) => `${folder}/${line}`)
      expect(listed.toSorted()).toEqual(filesUnder(folder, /\.cpp$/).toSorted())
    }
  })

  it('the first line of every file says what it holds', () => {
    const files = [
      ...filesUnder('native', cxx),
      ...filesUnder('lib', /\.ts$/),
      ...filesUnder('test', /\.(ts|h|cpp)$/),
      ...filesUnder('scripts', /\.mjs$/),
    ]
    expect(files.filter((file) => !/^(\/\/|\/\*\*?) \S/.test(read(file)))).toEqual([])
  })
})

describe('the check itself', () => {
  it.each([
    ['native/core/x.h', '#include "graph/program.h"'],
    ['native/ops/x.cpp', '#include "cpu/gemm.h"'],
    ['native/graph/x.cpp', '  #  include "curvature/products.h"'],
    ['native/unlearn/x.cpp', '#include "train/sgd.h"'],
    ['native/graph/x.cpp', '#include "../core/shape.h"'],
    ['native/unlearn/x.cpp', '#include <napi.h>'],
    ['native/unlearn/x.cpp', '#include <node_api.h>'],
    ['native/graph/x.cpp', '#include <dnnl.hpp>'],
    ['native/graph/x.cpp', '#include <oneapi/dnnl/dnnl_types.h>'],
    ['native/cpu/x.cpp', '#include <cuda_runtime.h>'],
    ['native/tools/x.cpp', ''],
  ])('refuses %s with %s', (file, text) => {
    expect(nativeFaults(file, `// A file.\n${text}\n`)).toHaveLength(1)
  })

  it.each([
    ['native/graph/x.cpp', '#include "ops/table.h"\n#include <vector>\n#include "graph/program.h"'],
    ['native/cpu/onednn.cpp', '#include <dnnl.hpp>\n#include <oneapi/dnnl/dnnl.hpp>'],
    ['native/binding/x.cpp', '#include <napi.h>\n#include "unlearn/problem.h"'],
    ['native/core/x.h', '// #include "graph/program.h" would point up'],
  ])('takes %s with %s', (file, text) => {
    expect(nativeFaults(file, text)).toEqual([])
  })

  it.each([
    ['lib/errors.ts', "import { is } from './options.js'"],
    ['lib/model.ts', "import { forget } from './forget.js'"],
    ['lib/vector.ts', "import type { Report } from './forget.js'"],
    ['lib/onnx/import.ts', "import { Model } from '../model.js'"],
    ['lib/forget.ts', "export * from './index.js'"],
    ['lib/index.ts', "await import('./cli/main.js')"],
    ['lib/model.ts', "require('../build/Release/palimpsest.node')"],
    ['lib/model.ts', "import config from '../package.json'"],
  ])('refuses %s with %s', (file, text) => {
    expect(libFaults(file, text)).toHaveLength(1)
  })

  it.each([
    ['lib/forget.ts', "import { bound } from './bound.js'\nimport { Model } from './model.js'"],
    ['lib/native.ts', "require('../build/Release/palimpsest.node')"],
    ['lib/onnx/import.ts', "import { read } from './wire.js'\nimport { PalimpsestError } from '../errors.js'"],
  ])('takes %s with %s', (file, text) => {
    expect(libFaults(file, text)).toEqual([])
  })
})

describe('error codes', () => {
  const declared = [...read('lib/errors.ts').matchAll(/^ {2}'(ERR_[A-Z_]+)',$/gm)].map(([, code]) => code)

  it('stand in docs/errors.md, each once, and no others', () => {
    const rows = [...read('docs/errors.md').matchAll(/^\| `(ERR_[A-Z_]+)` \|/gm)].map(([, code]) => code)
    expect(rows).toEqual(declared)
  })

  it('of the native side are all known', () => {
    const native = [...read('native/core/error.cpp').matchAll(/"(ERR_[A-Z_]+)"/g)].map(([, code]) => code)
    expect(native.length).toBeGreaterThan(5)
    expect(native.filter((code) => !declared.includes(code))).toEqual([])
  })
})
