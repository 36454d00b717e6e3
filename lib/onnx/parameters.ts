// What of a file is a parameter: float tensors that reach a convolution or a matrix product, scale and bias of a
// normalisation, operands of a broadcast Add or Mul. Running statistics never.
import { closest } from 'fastest-levenshtein'
import { PalimpsestError } from '../errors.js'
import { Budget } from './budget.js'
import type { GraphNode } from './nodes.js'
import type { Source } from './sources.js'

/** Names, or a choice by name and shape among all float tensors but running statistics. */
export type ParameterChoice = readonly string[] | ((name: string, shape: readonly number[]) => boolean)

export interface LeftOut {
  readonly name: string
  readonly reason: string
}

export interface Classification {
  /** In the file's order. */
  readonly parameters: readonly string[]
  readonly leftOut: readonly LeftOut[]
}

type Role = 'weight' | 'scale' | 'bias' | 'operand' | 'statistic'

/** Roles of inputs, by position. */
const roles: Readonly<Record<string, (rank: number, i: number) => Role | undefined>> = {
  Conv: (_, i) => (i === 0 ? undefined : 'weight'),
  Gemm: () => 'weight',
  MatMul: () => 'weight',
  Einsum: () => 'weight',
  BatchNormalization: (_, i) => (['scale', 'bias', 'statistic', 'statistic'] as const)[i - 1],
  InstanceNormalization: (_, i) => (['scale', 'bias'] as const)[i - 1],
  LayerNormalization: (_, i) => (['scale', 'bias'] as const)[i - 1],
  GroupNormalization: (_, i) => (['scale', 'bias'] as const)[i - 1],
  Add: () => 'operand',
  Mul: () => 'operand',
  // max(x, 0) - slope max(-x, 0) is a broadcast Mul, joining tokens to activations is a broadcast Add.
  PRelu: (_, i) => (i === 1 ? 'operand' : undefined),
  Concat: () => 'operand',
}

/** Inputs of weight-only nodes through which a parameter may come: the first, or these. */
const through: Readonly<Record<string, readonly number[] | 'all' | 'none'>> = {
  Add: 'all', Sub: 'all', Mul: 'all', Div: 'all', Sum: 'all', Mean: 'all', Max: 'all', Min: 'all', Concat: 'all',
  MatMul: 'all', Gemm: 'all', Einsum: 'all', Conv: 'all', PRelu: 'all', Where: [1, 2], LayerNormalization: 'all',
  Shape: 'none', Size: 'none', ConstantOfShape: 'none', Range: 'none', Constant: 'none',
} // prettier-ignore

/** @throws ERR_INVALID_ARGUMENT where a chosen name is no float tensor of the file, or running statistics */
export function classify(
  live: readonly GraphNode[],
  sources: ReadonlyMap<string, Source>,
  input: string,
  choice: ParameterChoice | undefined,
): Classification {
  const found = reached(live, sources, input)
  const used = new Set(live.flatMap((node) => node.input))
  const verdicts = new Map<string, string | undefined>()
  for (const source of sources.values()) {
    const own = used.has(source.name) ? reasonAgainst(source, found.get(source.name)) : 'the network does not use it'
    verdicts.set(source.name, own)
  }
  if (choice) applyChoice(choice, sources, found, used, verdicts)
  const names = [...sources.keys()]
  return {
    parameters: names.filter((name) => verdicts.get(name) === undefined),
    leftOut: names.flatMap((name) => {
      const reason = verdicts.get(name)
      const { constant, shape } = sources.get(name)!
      return reason === undefined || (constant && shape.length === 0) ? [] : [{ name, reason }]
    }),
  }
}

/** Which roles each source has, through weight-only nodes. */
function reached(
  live: readonly GraphNode[],
  sources: ReadonlyMap<string, Source>,
  input: string,
): Map<string, Set<Role>> {
  const runtime = new Set([input])
  const producers = new Map<string, GraphNode>()
  const found = new Map<string, Set<Role>>()
  const seen = new Set<string>()
  const mark = (root: string, role: Role): void => {
    const stack = [root]
    while (stack.length > 0) {
      const name = stack.pop()!
      const key = `${role}:${name}`
      if (!name || runtime.has(name) || seen.has(key)) continue
      seen.add(key)
      if (sources.has(name)) found.set(name, (found.get(name) ?? new Set()).add(role))
      const node = producers.get(name)
      if (!node) continue
      const open = through[node.opType] ?? [0]
      if (open !== 'none') stack.push(...node.input.filter((_, i) => open === 'all' || open.includes(i)))
    }
  }
  for (const node of live) {
    for (const name of node.output) producers.set(name, node)
    if (!carriers(node).some((name) => runtime.has(name))) continue
    for (const name of node.output) runtime.add(name)
    node.input.forEach((name, i) => {
      const role = roles[node.opType]?.(node.input.length, i)
      if (role) mark(name, role)
    })
  }
  return found
}

/** Inputs of a node whose values go into its result; of the others only the shape or the type does. */
function carriers(node: GraphNode): readonly string[] {
  if (node.opType === 'Shape' || node.opType === 'Size') return []
  return node.opType === 'CastLike' ? node.input.slice(0, 1) : node.input
}

function reasonAgainst(source: Source, found: ReadonlySet<Role> | undefined): string | undefined {
  if (!found) return 'it reaches no convolution, matrix product or normalisation, and no broadcast Add or Mul'
  if (found.has('statistic')) return 'running statistics of a batch normalisation'
  if (found.has('weight')) return source.shape.length === 0 ? 'a single number' : undefined
  if (source.shape.length === 0) return 'a single number'
  const single = source.anonymous && source.shape.every((d) => d === 1)
  if (found.has('operand')) {
    if (single) return 'a single number without a name of its own'
    return source.anonymous && isMask(source) ? 'a mask: zeros and one large negative number' : undefined
  }
  const standIn = found.has('scale') && found.has('bias') ? undefined : found.has('scale') ? 1 : 0
  if (!source.anonymous || standIn === undefined || !isUniform(source, standIn)) return undefined
  return `all ${standIn === 1 ? 'ones' : 'zeros'} and without a name of its own: stands for an absent ${standIn === 1 ? 'scale' : 'bias'}`
}

/** What attention adds to scores that it leaves out; -100 is the smallest that is in use. */
function isMask(source: Source): boolean {
  const { data } = source.read(new Budget(Infinity))
  let least = 0
  for (const v of data) least = Math.min(least, v)
  return least <= -100 && data.every((v) => v === 0 || v === least)
}

function isUniform(source: Source, value: number): boolean {
  return source.read(new Budget(Infinity)).data.every((v) => v === value)
}

function applyChoice(
  choice: ParameterChoice,
  sources: ReadonlyMap<string, Source>,
  found: ReadonlyMap<string, ReadonlySet<Role>>,
  used: ReadonlySet<string>,
  verdicts: Map<string, string | undefined>,
): void {
  const isStatistic = (name: string): boolean => found.get(name)?.has('statistic') ?? false
  const chosen = typeof choice === 'function' ? undefined : new Set(choice)
  for (const name of chosen ?? []) {
    if (sources.has(name) && used.has(name) && !isStatistic(name)) continue
    throw new PalimpsestError(
      'ERR_INVALID_ARGUMENT',
      `parameters: expected names of float tensors that the network uses, got "${name}"${hint(name, sources, isStatistic)}`,
    )
  }
  for (const { name, shape } of sources.values()) {
    if (!used.has(name) || isStatistic(name)) continue
    const wanted = chosen
      ? chosen.has(name)
      : (choice as (name: string, shape: readonly number[]) => boolean)(name, shape)
    verdicts.set(name, wanted ? undefined : (verdicts.get(name) ?? 'the option `parameters` leaves it out'))
  }
}

function hint(name: string, sources: ReadonlyMap<string, Source>, isStatistic: (name: string) => boolean): string {
  if (isStatistic(name)) return ', running statistics'
  const others = [...sources.keys()].filter((n) => n !== name && !isStatistic(n))
  return others.length > 0 ? `; did you mean "${closest(name, others)}"?` : ''
}
