// bound(): what may be left of forgotten rows, in numbers; a guarantee only where there is one.
import { PalimpsestError } from './errors.js'
import { Model } from './model.js'
import { invalid } from './options.js'
import { statements } from './scrub/statements.js'
import { Ensemble } from './ensemble.js'
import { TrainingRecord } from './record.js'
import { boundOfStanding } from './record/standing.js'
import { totalOf, type Guarantee, type Release } from './tangent/ledger.js'
import { TangentModel } from './tangent.js'

/** This instance's numbers. They depend on the forgotten rows: for the operator, never for a public record or a file. */
export interface Measured {
  /** Certified bound on the distance between the published mean and the exactly retrained weights. */
  distance: number
  /** Certified bound on E = (w - w*)^T H (w - w*); null where only the distance was bounded. */
  energy: number | null
  /** |gradient| of the retained problem where it was evaluated. */
  residual: number
  /** What float64 rounding may add to it. */
  allowance: number
  /** KL divergence of this instance, bounded; null without noise. */
  nats: number | null
  epsilon: number | null
}

export interface Assumption {
  statement: string
  /** The number that checks it, or how it was checked. */
  check: string
}

export interface Bound {
  /** True where `guaranteed` is a certificate. */
  certified: boolean
  /** True where the weights are what the same training gives without the rows, under the assumptions that are listed. */
  exact: boolean
  /** The preset target, the same whatever was forgotten: may be published. */
  guaranteed: Guarantee | null
  /** Only in the report of the call that measured it. */
  measured: Measured | null
  /** All releases of this model together. */
  total: Guarantee | null
  assumptions: Assumption[]
  /** 'holds': the certificate meets the target. 'exact': nothing of the rows was read. 'cannot-conclude': neither. */
  verdict: 'holds' | 'exact' | 'cannot-conclude'
  /** One sentence that says what the numbers are about. */
  statement: string
}

/** What no number here covers; docs/guarantee.md says it in full. `last` is the number of the release it is about. */
const notCovered = (last = 0): Assumption[] => [
  {
    statement:
      'models released before the request, and comparing them with this one: together they reveal the forgotten rows',
    check: last > 1 ? `not covered: releases 1 to ${last - 1} of the ledger` : 'not covered',
  },
  {
    statement:
      'the core, the public data and every choice (damping, target scale, layers, labels) were made without the forgotten rows',
    check: "the operator's to ensure",
  },
  {
    statement:
      'requests were chosen from released weights only, never from a model that held the rows or from measured values',
    check: "the operator's to ensure",
  },
  {
    statement:
      'what the retained rows themselves say of the forgotten ones; running time, refusals, which solver gave the weights, logs',
    check: 'not covered',
  },
]

/** Of releases whose noise came from a given seed. */
function seeds(ledger: readonly Release[]): Assumption[] {
  const numbers = ledger.filter(({ seeded }) => seeded).map(({ number }) => number)
  if (numbers.length === 0) return []
  const statement = 'nobody knows the seed of the noise: with it the noise can be subtracted, and nothing is guaranteed'
  return [{ statement, check: `not covered: the seed was given for releases ${numbers.join(', ')} of the ledger` }]
}

/** The bound of a release. @internal */
export function boundOf(
  ledger: readonly Release[],
  release: Release | undefined,
  measured: Measured | null,
  assumptions: readonly Assumption[],
): Bound {
  const guaranteed = release?.guaranteed ?? null
  const total = totalOf(ledger, release?.delta || 1e-6)
  const promised = guaranteed !== null && guaranteed.nats !== null
  const exact = promised && guaranteed.exact
  return {
    certified: promised,
    exact,
    guaranteed: guaranteed && { ...guaranteed },
    measured,
    total,
    assumptions: [...assumptions, ...seeds(ledger), ...notCovered(release?.number)],
    verdict: exact ? 'exact' : promised ? 'holds' : 'cannot-conclude',
    statement: statementOf(release, guaranteed),
  }
}

function statementOf(release: Release | undefined, guaranteed: Guarantee | null): string {
  if (release === undefined || release.kind === 'fit') return 'nothing was forgotten from these weights'
  if (guaranteed === null || guaranteed.nats === null) {
    return 'no noise was added: the distance to the retrained weights is bounded, what can be told from the weights is not'
  }
  if (guaranteed.exact) return 'the weights are what the same routine gives on the retained rows alone'
  const { nats, epsilon, delta } = guaranteed
  return (
    `the released weights are a draw from a distribution within ${nats} nats of exact retraining plus the same noise, ` +
    `in both directions: (${roundedUp(epsilon as number)}, ${delta})-indistinguishable`
  )
}

/** Four digits, none of them too small. */
function roundedUp(value: number): string {
  if (value === 0) return '0'
  const rounded = Number(value.toPrecision(4))
  const step = 10 ** (Math.floor(Math.log10(value)) - 3)
  return (rounded < value ? rounded + step : rounded).toPrecision(4)
}

/**
 * What may be left in a model. For a TangentModel the guarantee of its last release and of all of them together
 * (certified removal relative to exact retraining; Golatkar et al. 2021, Guo et al. 2020); for any other model
 * `certified: false`, and for one that scrub() changed what is known of the method and why that is no certificate. For a
 * training record, or the ensemble it gave, `exact: true` with its conditions while every request was served by retraining.
 *
 * Errors: ERR_INVALID_ARGUMENT for what is no model, ERR_DISPOSED.
 */
export function bound(model: Model | TangentModel | TrainingRecord | Ensemble): Bound {
  if (model instanceof TangentModel) {
    void model.state
    const ledger = model.ledger
    return boundOf(ledger, ledger[ledger.length - 1], null, [])
  }
  if (model instanceof TrainingRecord) return boundOfStanding(model.standing)
  if (model instanceof Ensemble) {
    if (model.disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected an ensemble in use, got one disposed')
    return model.standing ? boundOfStanding(model.standing) : uncertified([])
  }
  if (!(model instanceof Model)) throw invalid('model', 'a Model, a TangentModel, a record or an ensemble', model)
  if (model.disposed) throw new PalimpsestError('ERR_DISPOSED', 'expected a model in use, got one that was disposed')
  return uncertified(model.scrubs)
}

/** What can be said of an ordinary network that these methods of scrub() have changed, or none of them. @internal */
export function uncertified(methods: readonly string[]): Bound {
  const ordinary =
    'an ordinary network has no certificate: its weights depend on every row in ways that nothing here bounds'
  const last = methods.at(-1)
  return {
    certified: false,
    exact: false,
    guaranteed: null,
    measured: null,
    total: null,
    assumptions: [...new Set(methods)].flatMap(assumptionsOfScrub).concat(notCovered()),
    verdict: 'cannot-conclude',
    statement: last === undefined ? ordinary : `scrub() with method '${last}' has no certificate: ${whyNot(last)}`,
  }
}

const unknownMethod = { known: 'a method that this version does not know was applied', why: 'nothing is known of it' }
const statementOfScrub = (method: string) => (Object.hasOwn(statements, method) ? statements[method] : unknownMethod)
const whyNot = (method: string) => statementOfScrub(method).why

function assumptionsOfScrub(method: string): Assumption[] {
  const { known, why } = statementOfScrub(method)
  return [{ statement: `${method}: ${known}`, check: `not a guarantee: ${why}` }]
}
