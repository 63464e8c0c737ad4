// Rows about passes: capabilities that are carried out of the host, and brought back into it.

import { KernelError } from "../base/errno.ts";
import { PID_OWNER, type Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { parseGrants } from "../cap/rights.ts";
import type { Host } from "./host.ts";
import type { Process } from "../proc/process.ts";
import { VIRTUAL } from "../proc/virtual.ts";
import { args, assertMayName, integer, pid, row, text } from "./row.ts";

/** A pass without an end of its own is valid for an hour. */
const DEFAULT_TTL_MS = 3_600_000;
const TTL_MAX_MS = 366 * 86_400_000;

export const PASS_ROWS = {
  issuePass: row<
    {
      /** Needed unless it is the pass of a virtual process. */
      readonly grants?: readonly string[];
      /** A virtual process below the caller: the pass stands for it, with all its rights. */
      readonly as?: Pid;
      readonly user?: string;
      readonly ttlMs?: number;
      readonly notBefore?: number;
    },
    { readonly pass: string; readonly id: string; readonly expires: number }
  >({
    right: "pass.issue",
    kind: "mutation",
    summary:
      "signs a pass with some of the caller's rights, to be used from outside of this host; or that of a virtual process below it",
    schema: args({
      grants: { type: "array", items: text, minItems: 1, maxItems: LIMITS.grantsMax },
      as: pid,
      user: { type: "string", minLength: 1, maxLength: 256 },
      ttlMs: { type: "integer", minimum: 1000, maximum: TTL_MAX_MS },
      notBefore: integer,
    }),
    target: (host) => ({ resource: host.audience }),
    alsoNeeds: ({ as }) => (as === undefined ? [] : [{ right: "proc.signal", resource: `/proc/${as}` }]),
    handle: (host, caller, { grants: given, as, user, ttlMs = DEFAULT_TTL_MS, notBefore }, _target, draft) => {
      const issuer = as === undefined ? caller : virtualBelow(host, caller, as);
      const grants = as === undefined ? (given ?? []) : ["*"];
      if (grants.length === 0 || (as !== undefined && given !== undefined))
        throw new KernelError("EINVAL", "a pass has grants, or is that of a virtual process, and not both", {
          syscall: "issuePass",
        });
      parseGrants(grants);
      if (user !== undefined && as !== undefined && user !== issuer.identity.user)
        throw new KernelError(
          "EINVAL",
          `the pass of a virtual process is in the name of its user, ${issuer.identity.user}; start it with spawn("virtual", { user })`,
          { syscall: "issuePass", pid: as },
        );
      assertMayName(caller, user, "issuePass");
      const issued = host.committer.now();
      // The schema is for callers from outside; a program of this host is held to the same bound.
      if (!Number.isSafeInteger(ttlMs) || ttlMs < 1000 || ttlMs > TTL_MAX_MS)
        throw new KernelError("EINVAL", `a pass is valid for 1 second to 366 days, found ${ttlMs} ms`, {
          syscall: "issuePass",
        });
      const from = notBefore ?? issued;
      const expires = from + ttlMs;
      const { pass, id } = passesOf(host).issue({
        subject: user ?? issuer.identity.user,
        pid: issuer.pid,
        // A process that leaves no record is unknown to the next start of the host, and so is its number.
        audience: issuer.journal === undefined && issuer.pid !== PID_OWNER ? host.sessionAudience : host.audience,
        grants,
        issued,
        notBefore: from,
        expires,
      });
      draft?.add({ id });
      return { pass, id, expires };
    },
  }),
  revokePass: row<{ readonly id: string }, Promise<void>>({
    right: "cap.revoke",
    kind: "mutation",
    summary: "refuses a pass from now on, and what was narrowed from it; ends the sessions that use it",
    schema: args({ id: { type: "string", minLength: 1, maxLength: 64 } }, ["id"]),
    target: (_host, _caller, { id }) => ({ resource: `/sys/passes/${id}` }),
    handle: (host, _caller, { id }, _target, draft) => host.seats.revoke(id, draft),
  }),
} as const;

/** @throws {EINVAL} it is no virtual process · {EPERM} it is not below the caller */
function virtualBelow(host: Host, caller: Process, pid: Pid): Process {
  const process = host.processes.get(pid);
  if (process?.isAlive !== true || process.program !== VIRTUAL)
    throw new KernelError("EINVAL", `process ${pid} is no virtual process; start one with spawn("${VIRTUAL.name}")`, {
      syscall: "issuePass",
      pid,
    });
  if (!host.processes.family.isWithin(pid, caller.pid))
    throw new KernelError("EPERM", `process ${pid} is not below ${caller.pid}: its pass is not that one's to give`, {
      syscall: "issuePass",
      pid,
    });
  return process;
}

function passesOf(host: Host): NonNullable<Host["passes"]> {
  if (host.passes === undefined)
    throw new KernelError("ENOTSUP", "this host has no keys: it issues and takes no passes");
  return host.passes;
}
