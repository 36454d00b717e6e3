// A worker process: takes one job from the process that forked it, runs it, and answers.
import { PalimpsestError } from '../errors.js'
import type { Job } from './job.js'
import type { Answer } from './messages.js'
import { runJob } from './run.js'

const answer = (message: Answer, then?: () => void): void => {
  process.send?.(message, undefined, undefined, then)
}

// Nobody waits for the result any more, and what it would write could outlive its purge.
process.on('disconnect', () => process.exit(1))

process.once('message', (job: Job) => {
  let told = 0
  const onProgress = (visits: number): void => {
    const now = performance.now()
    if (now - told < 50) return
    told = now
    answer({ visits })
  }
  runJob(job, { onProgress })
    .then(
      (result): Answer => ({ result }),
      (error: unknown): Answer => {
        const code = error instanceof PalimpsestError ? error.code : undefined
        const message = error instanceof Error ? error.message : String(error)
        return { error: { message, ...(code && { code }) } }
      },
    )
    .then((last) => answer(last, () => process.exit(0)))
    .catch(() => process.exit(1))
})
