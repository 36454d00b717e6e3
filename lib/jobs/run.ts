// What a worker does with a job, in whatever process it is.
import { environmentOf } from './environment.js'
import { jobResult, type Job, type JobResult, type RunOptions } from './job.js'
import { runShard } from './shard.js'

export async function runJob(job: Job, options: RunOptions): Promise<JobResult> {
  if (job.kind === 'shard') return runShard(job, options)
  const environment = environmentOf(job.pins.device)
  return jobResult({ id: job.id, environment, checkpoints: [], logs: [], visits: 0, seconds: 0 })
}
