// The process that a person names: by pid, or by run id.

import {
  type Exit,
  KernelError,
  LIMITS,
  isKernelError,
  type Os,
  type Pid,
  type ProcessSummary,
  parsePid,
  toPid,
} from "@ergos/kernel";

/** @throws {EINVAL} it is neither · {ESRCH} there is no such process, or its run id is another */
export async function findProcess(os: Os, name: string): Promise<ProcessSummary> {
  const pid = parsePid(name);
  const [found] = await os.ps({ pids: [pid] });
  if (found === undefined || (name !== String(pid) && name !== found.runId)) {
    throw new KernelError("ESRCH", `there is no process ${name}; \`ergos ps --all\` lists them`, { pid });
  }
  return found;
}

/**
 * The pid that a person names: what is to be done with it says itself whether it may be.
 * @throws {EINVAL} it is neither · {ESRCH} there is no such process, or its run id is another
 */
export async function findPid(os: Os, name: string): Promise<{ readonly pid: Pid; readonly runId: string }> {
  try {
    return await findProcess(os, name);
  } catch (error) {
    // Who may see no others still knows the number of its own.
    const pid = parsePid(name);
    if (!isKernelError(error) || error.code !== "EACCES" || name !== String(pid)) throw error;
    return { pid, runId: name };
  }
}

/**
 * Waits for a process to end.
 * @throws {ECONNRESET} its host has ended before; it sleeps
 */
export async function waitForEnd(os: Os, pid: Pid): Promise<Exit> {
  try {
    return await os.wait(pid);
  } catch (error) {
    if (!isKernelError(error) || error.code !== "ECONNRESET") throw error;
    const why = `the host that process ${pid} ran in has ended; finished steps are kept, and the next host goes on with it. Go on with: ergos resume ${pid}`;
    throw new KernelError("ECONNRESET", why, { pid, cause: error });
  }
}

/**
 * All that live here, page by page, by their pids.
 * @param ended how many of those that have ended come along, the newest
 */
export async function allProcesses(os: Os, ended = 0): Promise<readonly ProcessSummary[]> {
  const found = new Map<Pid, ProcessSummary>();
  if (ended > 0) for (const process of await os.ps({ all: true, limit: ended })) found.set(process.pid, process);
  for (let before: Pid | undefined; ;) {
    const page = await os.ps({ limit: LIMITS.pageMax, ...(before === undefined ? {} : { before }) });
    for (const process of page) found.set(process.pid, process);
    if (page.length < LIMITS.pageMax) return [...found.values()].toSorted((a, b) => a.pid - b.pid);
    before = toPid(Math.min(...page.map(({ pid }) => pid)));
  }
}
