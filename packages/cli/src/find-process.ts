// The process that a person names: by pid, or by run id.

import { KernelError, type Os, type ProcessSummary, parsePid } from "@ergos/kernel";

/** @throws {EINVAL} it is neither · {ESRCH} there is no such process, or its run id is another */
export async function findProcess(os: Os, name: string): Promise<ProcessSummary> {
  const pid = parsePid(name);
  const [found] = await os.ps({ pids: [pid] });
  if (found === undefined || (name !== String(pid) && name !== found.runId)) {
    throw new KernelError("ESRCH", `there is no process ${name}; \`ergos ps --all\` lists them`, { pid });
  }
  return found;
}
