// A task of a work queue: what is asked for, what has become of it, and its stored form (`q/<id>`, `qk/<queue>/<key>`).

import { type ErrorRecord, KernelError } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import type { Priority } from "../ipc/mailbox.ts";
import type { Along } from "./action.ts";
import type { Role, Tier } from "./role.ts";

export const TASK_STATES = ["pending", "claimed", "completed", "failed", "cancelled"] as const;
export type TaskState = (typeof TASK_STATES)[number];

export interface TaskRequest {
  readonly queue: string;
  /** Any JSON value. */
  readonly body: unknown;
  /** `critical` is kept for the owner and daemons: from others it counts as `high`. */
  readonly priority?: Priority;
  /** Only processes of this role get it. */
  readonly role?: Role;
  /** Only processes that may think with models of this tier, or a higher one, get it. */
  readonly tier?: Tier;
  /** Milliseconds in which somebody must have begun; then it has failed. */
  readonly deadlineMs?: number;
  /** Milliseconds before anybody may begin. */
  readonly delayMs?: number;
  /** Claims after which it has failed (default 3). */
  readonly attemptsMax?: number;
  /** The wait after an attempt that has failed, or whose worker has ended (default: none). */
  readonly retry?: TaskRetry;
  /** A second task of a queue under the same key is the first one. */
  readonly key?: string;
}

interface TaskRetry {
  /** Milliseconds behind the first attempt. */
  readonly delayMs: number;
  /** What each wait is multiplied with (default 2). */
  readonly factor?: number;
  /** No wait is longer (default an hour, or `delayMs` if that is longer). */
  readonly maxDelayMs?: number;
}

export interface Task extends Omit<TaskRequest, "deadlineMs" | "delayMs"> {
  readonly id: number;
  readonly state: TaskState;
  /** The process that has submitted it. */
  readonly by: Pid;
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly expires?: number;
  /** Nobody begins it before. */
  readonly notBefore?: number;
  readonly attempts: number;
  readonly claimant?: Pid;
  readonly leaseMs?: number;
  readonly ended?: number;
  readonly result?: unknown;
  /** Why it has failed, or why the last attempt has. */
  readonly error?: ErrorRecord;
}

export interface Claim {
  readonly queue: string;
  /** Milliseconds to wait; 0 looks once, without it there is no end. */
  readonly waitMs?: number;
  /** Milliseconds for which it is the claimant's (default a minute). */
  readonly leaseMs?: number;
  readonly signal?: AbortSignal;
}

export interface TaskFilter {
  readonly queue?: string;
  readonly state?: TaskState;
  readonly claimant?: Pid;
  readonly by?: Pid;
  /** Only those with a greater number. */
  readonly after?: number;
  readonly limit?: number;
}

const FORMAT = 1;
const ATTEMPTS_MAX = 3;
const QUEUE = /^[a-z0-9_][a-z0-9_.-]{0,127}$/i;
export const taskKey = (id: number): string => `q/${String(id).padStart(10, "0")}`;
export const nameKey = (queue: string, key: string): string => `qk/${queue}/${key}`;

const HOUR_MS = 3_600_000;
export const waitAfter = ({ retry, attempts }: Task): number =>
  retry === undefined
    ? 0
    : Math.round(
        Math.min(
          retry.delayMs * (retry.factor ?? 2) ** (attempts - 1),
          retry.maxDelayMs ?? Math.max(HOUR_MS, retry.delayMs),
        ),
      );

export const isSpent = ({ attempts, attemptsMax = ATTEMPTS_MAX }: Task): boolean => attempts >= attemptsMax;

export const isOver = ({ state }: Pick<Task, "state">): boolean => state !== "pending" && state !== "claimed";

/** @throws {EINVAL} it is no name of a queue */
export function assertQueue(queue: string): void {
  if (!QUEUE.test(queue))
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(queue)} is no name of a queue; write letters, digits, dots, dashes and underscores`,
    );
}

export const putOf = (task: Task): NonNullable<Along["puts"]>[number] => ({
  key: taskKey(task.id),
  value: JSON.stringify({ v: FORMAT, ...task }),
});

export function decodeTask(value: string): Task {
  // Written by `putOf` only.
  const { v, ...task } = JSON.parse(value) as Task & { readonly v: number };
  if (v === FORMAT) return task;
  throw new KernelError("EVERSION", `a task has format ${v}, this program reads ${FORMAT}; use a newer ErgOS`);
}
