// What a record promises: exact while every request was served by retraining, and then under which conditions.
import type { Assumption, Bound } from '../bound.js'
import type { LedgerEntry } from './format.js'

/** What a record, or the ensemble it gave, stands for. */
export interface Standing {
  /** Whether the weights are, bit for bit, those of training the remaining rows alone. */
  exact: boolean
  ledger: readonly LedgerEntry[]
}

const conditions: Assumption[] = [
  {
    statement:
      'the weights are bit for bit those of the same training, seeds and assignment without the revoked rows, from the same initial weights',
    check:
      'by construction: no checkpoint that saw a revoked row was read; pinned threads, instruction set and version',
  },
  {
    statement: 'initial weights, network, hyper-parameters, seeds and S and R were chosen without the revoked rows',
    check: "the operator's to ensure",
  },
  {
    statement:
      'requests do not depend on models that held the rows: whoever chooses rows by what a model says may tell by the choice',
    check: 'not covered (exactness is for requests that are not adaptive)',
  },
  {
    statement:
      'checkpoints, logs and job folders with traces of the rows were removed from the record; blocks on disk, backups, copies and ensembles taken before are not',
    check: "purged files are in the report of the request; the rest is the operator's",
  },
]

const released: Assumption = {
  statement:
    'models released before the request, and comparing them with this one: together they reveal the forgotten rows',
  check: 'not covered',
}

/** The bound of a record: the weakest arm that was used decides. */
export function boundOfStanding({ exact, ledger }: Standing): Bound {
  const requests = ledger.filter(({ kind }) => kind === 'forget')
  const guaranteed = exact ? { nats: 0, epsilon: 0, delta: 0, advantage: 0, exact: true } : null
  if (!exact) {
    return {
      certified: false,
      exact: false,
      guaranteed: null,
      measured: null,
      total: null,
      assumptions: [released],
      verdict: 'cannot-conclude',
      statement: requests.some(({ arm }) => arm === 'direct')
        ? 'a request was served by a direct update, which has no certificate; retraining from before it makes the weights exact again'
        : 'the record is not complete',
    }
  }
  return {
    certified: true,
    exact: true,
    guaranteed,
    measured: null,
    total: requests.length > 0 ? guaranteed : null,
    assumptions: [...conditions, released],
    verdict: 'exact',
    statement:
      requests.length === 0
        ? 'nothing was forgotten from these weights'
        : 'the weights are what the same training gives on the remaining rows alone',
  }
}
