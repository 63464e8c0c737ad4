// What children have started and left: found by the mark in the environment, and killed.
//
// S1  Marks that are looked for at the same time are looked for in one pass over the processes of the machine, which
//     gives others their turn: a machine may have thousands.

import { readFileSync, readdirSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";

/** In the environment of a child and of all that it starts. */
export const MARK = "ERGOS_CHILD";
/** Processes that are looked at in one piece. */
const PIECE = 32;

export class Strays {
  #wanted = new Set<string>();
  #next: Promise<void> | undefined;
  #pass: Promise<void> = Promise.resolve();

  /** Kills what carries a mark; settles when everything was looked at once since. */
  kill(mark: string): Promise<void> {
    this.#wanted.add(mark);
    this.#next ??= this.#pass.then(async () => {
      // Others that end in this moment come along.
      await turn();
      const marks = this.#wanted;
      this.#wanted = new Set();
      this.#next = undefined;
      this.#pass = killAll(marks);
      return this.#pass;
    });
    return this.#next;
  }
}

async function killAll(marks: ReadonlySet<string>): Promise<void> {
  let looked = 0;
  for (const pid of pids()) {
    if (marks.has(markOf(pid))) end(Number(pid));
    if (++looked % PIECE === 0) await turn();
  }
}

/** Pids of what carries a mark, or with a trailing slash all marks of one owner; none where the machine does not tell. */
export function findStrays(mark: string): readonly number[] {
  return pids()
    .filter((pid) => (mark.endsWith("/") ? markOf(pid).startsWith(mark) : markOf(pid) === mark))
    .map(Number);
}

/** Kills what carries a mark at once, as {@link findStrays} finds it: processes that have left their group. */
export function killStrays(mark: string): void {
  for (const pid of findStrays(mark)) end(pid);
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}

function pids(): readonly string[] {
  try {
    return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  } catch {
    return [];
  }
}

/** The mark of a process; empty of one that has none, has ended meanwhile, or is not ours to read. */
function markOf(pid: string): string {
  let environment: string;
  try {
    environment = readFileSync(`/proc/${pid}/environ`, "latin1");
  } catch {
    return "";
  }
  const name = `${MARK}=`;
  const at = environment.startsWith(name) ? 0 : environment.indexOf(`\0${name}`) + 1;
  if (!environment.startsWith(name, at)) return "";
  return environment.slice(at + name.length, environment.indexOf("\0", at) >>> 0);
}
