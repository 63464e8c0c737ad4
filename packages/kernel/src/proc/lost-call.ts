// Calls that a process leaves without an outcome: what was reserved for them is spent, and stands in the ledger.

import type { Batch } from "../abi/metastore.ts";
import { KernelError, toErrorRecord } from "../base/errno.ts";
import { usageOf } from "../budget/ledger.ts";
import type { Intent } from "../journal/journal.ts";
import { encodeRecord, journalLog } from "../journal/record.ts";
import type { ProcessIdentity } from "./process.ts";

/** The records of one such call in the journal and in the ledger, for one commit. */
export function lostCall(
  identity: ProcessIdentity,
  at: number,
  place: string,
  { reservation, of }: Intent,
): NonNullable<Batch["appends"]> {
  const { pid } = identity;
  const error = toErrorRecord(
    new KernelError("EUNKNOWN", "nobody saw the end of this call; it may have acted", { pid }),
  );
  return [
    { log: journalLog(pid), value: encodeRecord({ t: "lost", at, p: place, error }) },
    usageOf(identity, { at, place, ...of, used: reservation.amounts, isUnknown: true }),
  ];
}
