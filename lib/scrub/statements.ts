// What is known of each method of scrub(), and why that is no certificate: the sentences of bound().
import type { ScrubStatement } from './method.js'

export const statements: Readonly<Record<string, ScrubStatement>> = {
  fineTune: {
    known: 'the weights went on learning from the retained rows alone',
    why: 'they started from weights that had learned the forgotten rows, and nothing bounds what of that is left',
  },
}
