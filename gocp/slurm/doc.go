// Package slurm runs work on clusters that Slurm schedules: it writes batch scripts, submits, asks and
// cancels by Slurm's own commands, and tells a program what job it runs in. There is no scheduler here.
//
// What is not as one would guess of Slurm, and how it is dealt with: a bare array id, which is also the
// SLURM_JOB_ID of one of its tasks, means the whole array, so a task is named ARRAY_TASK only; a job whose
// warning comes to a program must have replaced its shell by it (exec); a time limit is no requeue, so the
// task requeues itself at the warning; a job that was cancelled must not; variables of the job that one
// submits from reach the job that is submitted; a job that Slurm has forgotten looks like one that never was.
package slurm
