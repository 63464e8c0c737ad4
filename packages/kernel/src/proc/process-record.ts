// The stored form of a process: `p/<pid>`, and `l/<pid>` while it is not over, which says whether it sleeps.

import type { Entry } from "../abi/metastore.ts";
import { type ErrorRecord, KernelError } from "../base/errno.ts";
import { type ContentId, type Pid, toPid, toRunId } from "../base/id.ts";
import type { Masker } from "../ipc/event-bus.ts";
import type { Grant } from "../cap/grant.ts";
import type { History } from "../journal/journal.ts";
import type { Exit, Process, ProcessIdentity, Renewal, Signal, Sleep, Usage } from "./process.ts";

/** Format 1 held the grants themselves in `layers`; 3 has a `history`, without which a record is of format 2. */
const PROCESS_FORMAT = 3;

export interface ProcessRecord {
  readonly v: number;
  readonly identity: ProcessIdentity;
  /** Ids of its layers, outermost first. */
  readonly caps?: readonly string[];
  readonly layers?: readonly (readonly Grant[])[];
  readonly input?: unknown;
  readonly inputRef?: ContentId;
  readonly ended?: number;
  readonly exit?: Exit;
  readonly resultRef?: ContentId;
  readonly quarantined?: ErrorRecord;
  /** Where its journal begins, when it has gone on as new. */
  readonly history?: History;
  /** It was told to stop: its next life begins so. */
  readonly stopped?: true;
  /** It was told to end, and is doing what that waits for. */
  readonly ending?: Signal;
  readonly usage?: Usage;
}

const TAKER_FORMAT = 1;

export const processKey = (pid: Pid): string => `p/${String(pid).padStart(10, "0")}`;
/** Under which a start was made once: its process, and what that was started as. */
export const spawnKey = (user: string, key: string): string => `sk/${encodeURIComponent(user)}/${key}`;
interface Taker {
  readonly pid: Pid;
  readonly program: string;
}
export const encodeTaker = (taker: Taker): string => JSON.stringify({ v: TAKER_FORMAT, ...taker });
export function decodeTaker({ key, value }: Pick<Entry, "key" | "value">): Taker {
  // Written by `encodeTaker` only.
  const { v, ...taker } = JSON.parse(String(value)) as Taker & { readonly v: number };
  if (v !== TAKER_FORMAT)
    throw new KernelError("EVERSION", `${key} has format ${v}, this program reads ${TAKER_FORMAT}; use a newer ErgOS`);
  return taker;
}
export const liveKey = (pid: Pid): string => `l/${String(pid).padStart(10, "0")}`;
export const encodeSleep = (sleep: { readonly until: number | undefined }): string => JSON.stringify(sleep);
/** What `l/<pid>` says: nothing of a process that goes on with its host. */
export const decodeSleep = ({ value }: Entry): Sleep | undefined =>
  // Written by `encodeSleep` only.
  value.length === 0 ? undefined : (JSON.parse(String(value)) as Sleep);
export const pidOfKey = (key: string): Pid => toPid(Number(key.slice(2)));

export interface RecordExtra {
  /** What the identity will be once the commit has succeeded. */
  readonly identity?: ProcessIdentity | undefined;
  readonly exit?: Exit;
  readonly resultRef?: ContentId;
  readonly quarantined?: ErrorRecord;
  readonly renewal?: Renewal;
}

export function encodeProcess(process: Process, extra: RecordExtra = {}, masker?: Masker): string {
  const hide = <T>(value: T): T => masker?.maskData(value) ?? value;
  const history = historyOf(process, extra);
  const record: ProcessRecord = {
    v: history === undefined ? PROCESS_FORMAT - 1 : PROCESS_FORMAT,
    identity: extra.identity ?? process.identity,
    caps: process.capability.layers.map(({ id }) => id),
    ...inputOf(process, extra, hide),
    ...(history === undefined ? {} : { history }),
    ...(process.ended === undefined ? {} : { ended: process.ended, usage: process.usage }),
    ...(extra.exit === undefined ? {} : { exit: hide(extra.exit) }),
    ...(extra.resultRef === undefined ? {} : { resultRef: extra.resultRef }),
    ...quarantineOf(process, extra),
    ...(process.staysStopped ? { stopped: true } : {}),
    ...(process.endedBy === undefined || extra.exit !== undefined ? {} : { ending: process.endedBy }),
  };
  return JSON.stringify(record);
}

function inputOf(
  process: Process,
  { renewal }: RecordExtra,
  hide: (value: unknown) => unknown,
): Pick<ProcessRecord, "input" | "inputRef"> {
  const { inputRef } = renewal ?? process;
  if (inputRef !== undefined) return { inputRef };
  const { inputJson } = renewal ?? { inputJson: undefined };
  const input = renewal === undefined ? process.input : inputJson === undefined ? undefined : JSON.parse(inputJson);
  return input === undefined ? {} : { input: hide(input) };
}

/** Where its journal begins; nothing of one that is whole. */
function historyOf({ journal }: Process, { renewal }: RecordExtra): History | undefined {
  const history = renewal?.history ?? journal?.history;
  return history?.since === 0 ? undefined : history;
}

/** Why it is kept, where it is or will be. */
function quarantineOf({ state }: Process, { quarantined }: RecordExtra): Pick<ProcessRecord, "quarantined"> {
  const error = quarantined ?? (state.name === "quarantined" ? state.error : undefined);
  return error === undefined ? {} : { quarantined: error };
}

export function decodeProcess(entry: Entry): ProcessRecord {
  // Written by `encodeProcess` only.
  const record = JSON.parse(String(entry.value)) as ProcessRecord;
  if (!(record.v >= 1 && record.v <= PROCESS_FORMAT)) {
    throw new KernelError(
      "EVERSION",
      `process ${entry.key} has format ${record.v}, this program reads ${PROCESS_FORMAT}; use a newer ErgOS`,
    );
  }
  return record;
}

/** `<name>-<pid>`: readable, and unique because pids are never reused. */
export const makeRunId = (name: string, pid: Pid): ProcessIdentity["runId"] =>
  toRunId(`${name.replaceAll(/[^A-Za-z0-9_.-]/g, "_").slice(0, 64)}-${pid}`);

/** The pid in a run id, or `undefined`. */
export function pidOfRunId(text: string): Pid | undefined {
  const match = /-(\d{1,15})$/.exec(text);
  return match?.[1] === undefined ? undefined : toPid(Number(match[1]));
}
