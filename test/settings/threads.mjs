// Prints how many threads the CPU takes, in a process of its own.
import { settings } from '../../dist/index.js'

console.log(settings('cpu').threads)
