// What is known of each method of scrub(), and why that is no certificate: the sentences of bound().
import type { ScrubStatement } from './method.js'

export const statements: Readonly<Record<string, ScrubStatement>> = {
  mnemonic: {
    known: "the weights that the class's code needs and the other codes do not were moved until its code was wrong",
    why: "wrong answers on a class are suppression or forgetting alike, and one code a class bounds nothing of the rows'",
  },
  fineTune: {
    known: 'the weights went on learning from the retained rows alone',
    why: 'they started from weights that had learned the forgotten rows, and nothing bounds what of that is left',
  },
}
