// Rows about the audit trail.

import { patiently } from "../abi/entries.ts";
import { AUDIT_LOG, SEAL_LOG, decodePayload, payloadKey } from "../audit/record.ts";
import {
  type AuditReport,
  type ShownRecord,
  auditRecords,
  forgetPayloads,
  sealBefore,
  verifyAudit,
  withPayload,
} from "../audit/verify.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { type Seq, SEQ_ZERO, toSeq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Host } from "./host.ts";
import { args, integer, row, text } from "./row.ts";

const onAudit = (): { readonly resource: string } => ({ resource: "/sys/audit" });
/** Records of one page, unless asked for others. */
const DEFAULT_PAGE = 200;
/** Payloads that one call removes. */
const REDACTED_MAX = 1000;

/** Records behind a position, about `limit`: those of one position are not parted. */
async function behind(host: Host, after: Seq, limit: number): Promise<readonly ShownRecord[]> {
  const found: ShownRecord[] = [];
  for await (const record of auditRecords(host.store, after)) {
    if (found.length >= limit && record.seq !== found.at(-1)?.seq) break;
    found.push(record);
  }
  return found;
}

/** The newest records. How many lie behind a seal is not known: it looks further back until there are enough. */
async function newest(host: Host, limit: number): Promise<readonly ShownRecord[]> {
  for (let records = limit; ; records *= 8) {
    const from = host.audit.startOf(records);
    const found: ShownRecord[] = [];
    try {
      for await (const record of auditRecords(host.store, from)) {
        found.push(record);
        if (found.length > limit) found.shift();
      }
    } catch (error) {
      // That part of the trail was forgotten: what is kept begins later.
      if (isKernelError(error) && error.code === "ESTALE") continue;
      throw error;
    }
    if (found.length >= limit || from === SEQ_ZERO) return found;
  }
}

export const AUDIT_ROWS = {
  auditLog: row<{ readonly after?: number; readonly limit?: number }, Promise<readonly ShownRecord[]>>({
    right: "audit.read",
    kind: "query",
    summary: "records of the audit trail behind a position, oldest first; without one, the newest",
    schema: args({ after: integer, limit: { type: "integer", minimum: 1, maximum: LIMITS.pageMax } }),
    target: onAudit,
    handle: async (host, _caller, { after, limit = DEFAULT_PAGE }) => {
      const found = after === undefined ? await newest(host, limit) : await behind(host, toSeq(after), limit);
      return Promise.all(found.map((record) => withPayload(host.store, record)));
    },
  }),
  auditVerify: row<Record<string, never>, Promise<AuditReport>>({
    right: "audit.read",
    kind: "query",
    summary: "holds every record against its seal; names the first that was altered, removed, added or moved",
    schema: args({}),
    target: onAudit,
    handle: async (host) => {
      await host.audit.seal();
      const { signer, audit, anchor } = host;
      return verifyAudit(patiently(host.store, host.platform), host.platform, {
        signer,
        head: audit.head,
        anchored: anchor?.read(),
      });
    },
  }),
  auditRedact: row<{ readonly ids: readonly string[]; readonly why: string }, Promise<number>>({
    right: "audit.redact",
    kind: "mutation",
    summary: "removes what records were about, not the records; who did it, and why, is a record too",
    schema: args({ ids: { type: "array", items: text, minItems: 1, maxItems: REDACTED_MAX }, why: text }, [
      "ids",
      "why",
    ]),
    target: onAudit,
    audited: ({ why }) => ({ why }),
    handle: async (host, _caller, { ids }, _target, draft) => {
      const entries = await Promise.all(ids.map((id) => host.store.get(payloadKey(id))));
      const found = ids.filter((_id, at) => entries[at] !== undefined);
      if (entries.some((entry) => entry !== undefined && decodePayload(String(entry.value))?.right === "audit.redact"))
        throw new KernelError("EPERM", "what was removed, and by whom, cannot be removed itself", {
          syscall: "auditRedact",
        });
      if (found.length === 0)
        throw new KernelError("ENOENT", "none of these records has anything to remove", { syscall: "auditRedact" });
      draft?.add({ ids: found });
      await host.committer.commit({ deletes: found.map(payloadKey) }, undefined, draft);
      return found.length;
    },
  }),
  auditTrim: row<{ readonly before: number; readonly why: string }, Promise<{ readonly through: Seq } | undefined>>({
    right: "audit.redact",
    kind: "mutation",
    summary: "forgets records that were sealed before an instant; the chain goes on from the last of them",
    schema: args({ before: integer, why: text }, ["before", "why"]),
    target: onAudit,
    handle: async (host, _caller, { before }, _target, draft) => {
      const found = await sealBefore(host.store, before);
      if (found === undefined) return undefined;
      const { through, head } = found.seal;
      // What is kept outside must be found in what is left.
      await host.audit.anchorHead();
      draft?.add({ through, head });
      const trims = [
        { log: AUDIT_LOG, through },
        { log: SEAL_LOG, through: found.at },
      ];
      // The record of it and the cut are one commit; what the removed records were about goes behind it, as does what
      // an earlier cut has left that was interrupted there.
      await host.committer.commit({ trims }, undefined, draft);
      await forgetPayloads(host.store, host.committer);
      return { through };
    },
  }),
} as const;
