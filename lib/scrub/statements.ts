// What is known of each method of scrub(), and why that is no certificate: the sentences of bound().
import type { ScrubStatement } from './method.js'

export const statements: Readonly<Record<string, ScrubStatement>> = {
  mnemonic: {
    known: "the weights were moved, each the more the more the class's code needs it and the less the other codes do",
    why: "wrong answers on a class are suppression or forgetting alike, and one code a class bounds nothing of the rows'",
  },
  dispose: {
    known:
      "gradients of batches of the source task were turned away from each other while the target task's answers stayed",
    why: 'how little is learned again was measured under a budget at most: another optimiser, or a larger one, may bring it back',
  },
  fineTune: {
    known: 'the weights went on learning from the retained rows alone',
    why: 'they started from weights that had learned the forgotten rows, and nothing bounds what of that is left',
  },
  fisherNoise: {
    known: 'noise was added, the more the less the retained rows need a weight',
    why: 'its scale is chosen by hand, and the mean below the noise is that of the weights that learned the forgotten rows',
  },
  dampening: {
    known: 'weights that matter to the forgotten rows out of proportion were shrunk',
    why: 'the choice is a heuristic on a diagonal; nothing bounds what the other weights hold',
  },
  gradientAscent: {
    known: 'the weights went up the gradient of the loss on the forgotten rows',
    why: 'a loss above that of a retrained model tells of the rows as well as one below; nothing bounds the distance',
  },
  retrain: {
    known: 'the weights were fitted anew to the retained rows',
    why: 'whether initial weights, options and the choice to retrain owe nothing to the forgotten rows cannot be checked here',
  },
  prune: {
    known:
      'channels were taken out of the network, or left in it with zero weights, by how far they tell the class apart',
    why: 'the other channels learned from its rows too, and comparing the weights with earlier ones shows which class went',
  },
}
