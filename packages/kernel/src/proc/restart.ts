// Whether a process that has failed is started again, how soon and how often: what a spawn says of it.

import { KernelError } from "../base/errno.ts";
import { type Schema, assertValid } from "../base/schema.ts";
import type { Role } from "./role.ts";

export const RESTART_POLICIES = ["always", "on-failure", "notify", "never"] as const;
export type RestartPolicy = (typeof RESTART_POLICIES)[number];

/** What happens to the other supervised children of a process when one of them is restarted. */
export const STRATEGIES = ["one-for-one", "one-for-all", "rest-for-one"] as const;
export type Strategy = (typeof STRATEGIES)[number];

export interface Restart {
  /**
   * `always`: whenever its program ends · `on-failure`: when it fails · `notify`: never, its parent gets a message of
   * kind `exit` · `never`. Nobody restarts what was ended by a signal.
   */
  readonly policy: RestartPolicy;
  /** Restarts within `withinMs` after which it is given up (default 3). */
  readonly max?: number;
  /** Milliseconds (default five minutes). */
  readonly withinMs?: number;
  /** Milliseconds before the first restart (default 500); each further one waits twice as long, less up to a quarter. */
  readonly delayMs?: number;
  /** Longest wait, in milliseconds (default 30 s). */
  readonly maxDelayMs?: number;
  /** `journal` (default): it goes on, only what failed is done again · `start`: all of it is. */
  readonly from?: "journal" | "start";
}

const DEFAULTS = { max: 3, withinMs: 300_000, delayMs: 500, maxDelayMs: 30_000 };

const milliseconds: Schema = { type: "integer", minimum: 0, maximum: 366 * 86_400_000 };
export const RESTART_SCHEMA: Schema = {
  anyOf: [
    { type: "string", enum: RESTART_POLICIES },
    {
      type: "object",
      properties: {
        policy: { type: "string", enum: RESTART_POLICIES },
        max: { type: "integer", minimum: 1, maximum: 10_000 },
        withinMs: { type: "integer", minimum: 1, maximum: 366 * 86_400_000 },
        delayMs: milliseconds,
        maxDelayMs: milliseconds,
        from: { type: "string", enum: ["journal", "start"] },
      },
      required: ["policy"],
      additionalProperties: false,
    },
  ],
};

/** What is said for each role that a spawn names. */
const OF_ROLE: Readonly<Record<Role, RestartPolicy>> = {
  kernel: "always",
  daemon: "always",
  agent: "notify",
  lead: "notify",
  worker: "notify",
  architect: "never",
  task: "never",
};

/**
 * The restart of a new process, as its identity keeps it; nothing where it is never restarted.
 * @throws {EINVAL} it leaves no journal and shall be restarted
 */
export function restartOf(
  wanted: Restart | RestartPolicy | undefined,
  role: Role | undefined,
  durable: boolean,
): Restart | undefined {
  if (wanted !== undefined) assertValid(RESTART_SCHEMA, wanted, "the restart of a process");
  const restart = typeof wanted === "string" ? { policy: wanted } : wanted;
  if (restart === undefined) {
    const policy = role === undefined ? "never" : OF_ROLE[role];
    return policy === "never" || (policy === "always" && !durable) ? undefined : { policy };
  }
  if (!durable && restart.policy !== "never" && restart.policy !== "notify")
    throw new KernelError(
      "EINVAL",
      `a process is restarted from its journal, and one that is not durable has none; leave out restart: ${restart.policy}, or durable: false`,
      { syscall: "spawn" },
    );
  return restart.policy === "never" ? undefined : restart;
}

/** @throws {EINVAL} there is no such strategy */
export function assertStrategy(strategy: Strategy | undefined): void {
  if (strategy !== undefined) assertValid({ enum: STRATEGIES }, strategy, "the strategy of a process");
}

/** Whether it is restarted at all, however it ends. */
export const isSupervised = ({ restart }: { readonly restart?: Restart }): boolean =>
  restart !== undefined && restart.policy !== "notify";

/** Restarts that still count, of the instants of all. */
export const recentOf = (
  restarts: readonly number[],
  { withinMs = DEFAULTS.withinMs }: Restart,
  now: number,
): number[] => restarts.filter((at) => at > now - withinMs);

/** Whether one more restart is within the intensity. */
export const hasRoom = (restarts: readonly number[], restart: Restart, now: number): boolean =>
  recentOf(restarts, restart, now).length < (restart.max ?? DEFAULTS.max);

/**
 * Milliseconds to wait before the next restart.
 * @param earlier how many there were lately
 * @param chance from 0 to 1: processes that failed together do not come back together
 */
export function delayOf(restart: Restart, earlier: number, chance: number): number {
  const { delayMs = DEFAULTS.delayMs, maxDelayMs = DEFAULTS.maxDelayMs } = restart;
  const full = Math.min(delayMs * 2 ** Math.min(earlier, 30), maxDelayMs);
  return Math.round(full * (1 - chance / 4));
}
