// The closed table of error codes and the one error class of the kernel.
//
// A code is never renamed or renumbered: POSIX names where they fit (numbers of Linux), ours from 1000 on.
// `docs/errors.md` has one heading for each code; a test compares both directions.

export type ErrorCategory = "io" | "memory" | "network" | "security" | "system" | "agent" | "capability" | "resource";
export type ErrorSeverity = "info" | "warning" | "error" | "critical" | "fatal";

export interface ErrnoRow {
  readonly number: number;
  readonly sentence: string;
  readonly category: ErrorCategory;
  readonly severity: ErrorSeverity;
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  readonly http: number;
  readonly grpc: number;
}

type RowTail = readonly [ErrorCategory, ErrorSeverity, boolean, number, number];

const row = (number: number, sentence: string, ...tail: RowTail): ErrnoRow => ({
  number,
  sentence,
  category: tail[0],
  severity: tail[1],
  retryable: tail[2],
  http: tail[3],
  grpc: tail[4],
});

export const ERRNO = {
  EPERM: row(1, "operation not permitted", "capability", "error", false, 403, 7),
  ENOENT: row(2, "no such file or directory", "io", "error", false, 404, 5),
  ESRCH: row(3, "no such process", "agent", "error", false, 404, 5),
  EINTR: row(4, "interrupted by a signal", "agent", "warning", true, 499, 1),
  EIO: row(5, "input or output error", "io", "critical", false, 500, 13),
  E2BIG: row(7, "value too large", "resource", "error", false, 413, 3),
  ENOEXEC: row(8, "not a program", "agent", "error", false, 422, 3),
  EBADF: row(9, "bad file handle", "io", "error", false, 400, 3),
  ECHILD: row(10, "no such child process", "agent", "error", false, 404, 5),
  EAGAIN: row(11, "temporarily unavailable", "resource", "warning", true, 429, 14),
  ENOMEM: row(12, "out of memory", "memory", "critical", false, 507, 8),
  EACCES: row(13, "permission denied", "capability", "error", false, 403, 7),
  EFAULT: row(14, "bad address", "memory", "error", false, 500, 13),
  EBUSY: row(16, "resource busy", "resource", "warning", true, 409, 9),
  EEXIST: row(17, "already exists", "io", "error", false, 409, 6),
  EXDEV: row(18, "crosses mounts", "io", "error", false, 409, 9),
  ENODEV: row(19, "no such device", "io", "error", false, 404, 5),
  ENOTDIR: row(20, "not a directory", "io", "error", false, 409, 9),
  EISDIR: row(21, "is a directory", "io", "error", false, 409, 9),
  EINVAL: row(22, "invalid argument", "system", "error", false, 400, 3),
  EMFILE: row(24, "too many open files", "resource", "error", true, 429, 8),
  EFBIG: row(27, "file too large", "io", "error", false, 413, 11),
  ENOSPC: row(28, "no space left on device", "resource", "critical", false, 507, 8),
  EROFS: row(30, "read-only filesystem", "io", "error", false, 403, 9),
  EPIPE: row(32, "broken pipe", "io", "error", false, 410, 9),
  EDEADLK: row(35, "deadlock", "resource", "error", true, 409, 10),
  ENAMETOOLONG: row(36, "name too long", "io", "error", false, 414, 3),
  ENOSYS: row(38, "no such call", "system", "error", false, 501, 12),
  ENOTEMPTY: row(39, "directory not empty", "io", "error", false, 409, 9),
  ELOOP: row(40, "too many links", "io", "error", false, 508, 9),
  EPROTO: row(71, "protocol error", "network", "error", false, 400, 3),
  ENOTSUP: row(95, "not supported", "system", "error", false, 501, 12),
  ECONNREFUSED: row(111, "connection refused", "network", "error", true, 502, 14),
  ECONNRESET: row(104, "connection lost", "network", "error", true, 502, 14),
  ETIMEDOUT: row(110, "timed out", "system", "error", true, 504, 4),
  ESTALE: row(116, "stale position or handle", "io", "error", false, 410, 9),
  EDQUOT: row(122, "budget exhausted", "resource", "error", false, 402, 8),
  ECANCELED: row(125, "canceled", "agent", "info", false, 499, 1),
  EUNKNOWN: row(1001, "outcome unknown after a crash", "agent", "critical", false, 500, 2),
  EWATCHDOG: row(1002, "the event loop was blocked", "agent", "fatal", false, 500, 13),
  EQUARANTINE: row(1003, "process is quarantined", "agent", "critical", false, 409, 9),
  EVERSION: row(1004, "format or protocol version not supported", "system", "fatal", false, 505, 9),
  EFAILED: row(1005, "program failed", "agent", "error", false, 500, 2),
  ECORRUPT: row(1006, "stored data is damaged", "io", "fatal", false, 500, 15),
  ETERMINAL: row(1007, "failed for good", "agent", "error", false, 422, 9),
} as const satisfies Record<string, ErrnoRow>;

export type Errno = keyof typeof ERRNO;

export interface ErrorDetails {
  readonly syscall?: string;
  readonly path?: string;
  readonly pid?: number;
  readonly cause?: unknown;
  /** How long whoever refused asks to wait before another try. */
  readonly retryAfterMs?: number;
  /** Somebody else has changed what a commit was built on: built anew it may go through. */
  readonly isLostRace?: boolean;
  /** What was asked for may have been done, and may have to be paid for: only its answer is missing. */
  readonly mayHaveActed?: boolean;
  /** Ties together the records of one request across processes. */
  readonly correlationId?: string;
  /** Where its innermost cause was thrown, as `file:line:column`. */
  readonly at?: string;
  /** The name of the error of user code that it stands for. */
  readonly type?: string;
}

/** The form of an error that is stored and sent: plain data, without stacks. */
export interface ErrorRecord {
  readonly code: Errno;
  readonly message: string;
  readonly syscall?: string;
  readonly path?: string;
  readonly pid?: number;
  /** What the process in which it happened belongs to. */
  readonly correlationId?: string;
  readonly causes?: readonly string[];
  /** Where the innermost cause was thrown, as `file:line:column`, if it is code of a program. */
  readonly at?: string;
  /** The name of the error of user code that it stands for, as `CardDeclined`. */
  readonly type?: string;
  /** How long whoever refused asks to wait before another try, in milliseconds. */
  readonly retryAfterMs?: number;
  /** What was asked for may have been done: only its answer is missing. */
  readonly mayHaveActed?: boolean;
}

const BRAND = Symbol.for("ergos.KernelError");

/** The error of every syscall: `code` decides, the message begins with it and tells a person what to do. */
export class KernelError extends Error {
  readonly code: Errno;
  readonly syscall: string | undefined;
  readonly path: string | undefined;
  readonly pid: number | undefined;
  readonly correlationId: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly isLostRace: boolean;
  readonly mayHaveActed: boolean;
  /** Where its innermost cause was thrown, of one that was recorded. */
  readonly at: string | undefined;
  /** The name of the error of user code that it stands for, live and recorded. */
  readonly type: string | undefined;
  readonly [BRAND] = true;

  constructor(code: Errno, message: string, details: ErrorDetails = {}) {
    super(`[${code}] ${message}`, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "KernelError";
    this.code = code;
    this.syscall = details.syscall;
    this.path = details.path;
    this.pid = details.pid;
    this.correlationId = details.correlationId;
    this.retryAfterMs = details.retryAfterMs;
    this.isLostRace = details.isLostRace === true;
    this.mayHaveActed = details.mayHaveActed === true;
    this.at = details.at;
    this.type = details.type;
  }
}

/**
 * A failure that trying again does not mend, as input that is wrong: no attempt follows, a task of a queue has failed, and
 * a process is not restarted for it.
 */
export class TerminalError extends KernelError {
  constructor(message: string, details: ErrorDetails = {}) {
    super("ETERMINAL", message, details);
  }
}

/** Whether a commit, or what it was built on, was overtaken; other refusals that are EAGAIN were not. */
export const isLostRace = (error: unknown): boolean => isKernelError(error) && error.isLostRace;

/** Recognises a kernel error also when it comes from another copy of this package. */
export function isKernelError(value: unknown): value is KernelError {
  return typeof value === "object" && value !== null && BRAND in value;
}

/** Whether `text` is a code of the table. */
export function isErrno(text: string): text is Errno {
  return Object.hasOwn(ERRNO, text);
}

/** Wraps a foreign error: what is a kernel error already stays as it is. */
export function toKernelError(error: unknown, code: Errno, details: ErrorDetails = {}): KernelError {
  if (isKernelError(error)) return error;
  return new KernelError(code, describe(error), { ...details, cause: error, ...typeOf(error) });
}

/** What an error of user code is called: by its class, where it does not say so itself. */
function typeOf(error: unknown): { readonly type?: string } {
  if (!(error instanceof Error)) return {};
  const { constructor } = error as { readonly constructor?: { readonly name?: unknown } };
  const name: unknown = error.name === "Error" ? constructor?.name : error.name;
  return typeof name === "string" && name !== "Error" && name !== "" ? { type: clip(name) } : {};
}

/** Causes that are kept of an error. */
export const CAUSES_MAX = 8;

/** Makes the stored form: message, origin and the messages of its causes. */
export function toErrorRecord(error: unknown, fallback: Errno = "EFAILED"): ErrorRecord {
  const kernelError = toKernelError(error, fallback);
  const causes: string[] = [];
  let { at } = kernelError;
  for (let cause = kernelError.cause; cause !== undefined && causes.length < CAUSES_MAX;) {
    causes.push(describe(cause));
    // Of one that was recorded before it was passed on, that is known already.
    at = frameOf(cause) ?? (isKernelError(cause) ? cause.at : undefined) ?? at;
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return {
    code: kernelError.code,
    message: clip(kernelError.message),
    ...(kernelError.syscall === undefined ? {} : { syscall: kernelError.syscall }),
    ...(kernelError.path === undefined ? {} : { path: kernelError.path }),
    ...(kernelError.pid === undefined ? {} : { pid: kernelError.pid }),
    ...(kernelError.correlationId === undefined ? {} : { correlationId: kernelError.correlationId }),
    ...(causes.length === 0 ? {} : { causes }),
    ...(at === undefined ? {} : { at }),
    ...(kernelError.type === undefined ? {} : { type: kernelError.type }),
    ...(isDelay(kernelError.retryAfterMs) ? { retryAfterMs: kernelError.retryAfterMs } : {}),
    ...(kernelError.mayHaveActed ? { mayHaveActed: true } : {}),
  };
}

const isDelay = (ms: number | undefined): ms is number => Number.isFinite(ms) && (ms ?? -1) >= 0;

const LIBRARY = /\/node_modules\/|\/packages\/(?:kernel|compiler|drivers|services|protocol|server|cli)\/(?:src|dist)\//;

/** The first place in a stack that is a file of a program, not of Node. */
function frameOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || isKernelError(error)) return undefined;
  try {
    const frames = error.stack
      ?.slice(0, 8192)
      .matchAll(/\n\s+at (?:[^\n]*?[( ])?(?:file:\/\/)?(\/[^\n()]*:\d+:\d+)\)?(?=\n|$)/g);
    for (const [, at = ""] of frames ?? []) {
      // What belongs to a library tells its user nothing. A module is imported under the hash of its content.
      if (!LIBRARY.test(at)) return decodeURI(at.replace(/\?v=\w+/, ""));
    }
  } catch {
    // A stack that cannot be read says nothing.
  }
  return undefined;
}

/** A record from elsewhere: what this table does not know is an error of input and output, and nothing in it is endless. */
export function knownError({ code, causes, ...texts }: ErrorRecord): ErrorRecord {
  const clipped = Object.entries(texts).map(([name, value]) => [name, typeof value === "string" ? clip(value) : value]);
  return {
    ...(Object.fromEntries(clipped) as typeof texts),
    code: isErrno(code) ? code : "EIO",
    ...(causes === undefined ? {} : { causes: causes.map(clip) }),
  };
}

/** A message without the code that it begins with, for a sentence that goes on with it. */
export const plainMessage = (message: string): string => message.replace(/^\[[A-Z0-9]+\] /, "");

/** A cause of its message, which begins with the code of a kernel error. */
function causeOf(text: string, options: { readonly cause?: Error }): Error {
  const code = /^\[([A-Z0-9]+)\] /.exec(text)?.[1] ?? "";
  return isErrno(code) ? new KernelError(code, plainMessage(text), options) : new Error(text, options);
}

/** The same error in other words, or about another path. */
export function reworded(
  error: KernelError,
  { message, path = error.path }: { readonly message: string; readonly path?: string | undefined },
): KernelError {
  const { code, syscall, pid, cause, retryAfterMs, isLostRace: lost, mayHaveActed, correlationId, at, type } = error;
  return makeError(code, message, {
    isLostRace: lost,
    mayHaveActed,
    ...(syscall === undefined ? {} : { syscall }),
    ...(path === undefined ? {} : { path }),
    ...(pid === undefined ? {} : { pid }),
    ...(cause === undefined ? {} : { cause }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(correlationId === undefined ? {} : { correlationId }),
    ...(at === undefined ? {} : { at }),
    ...(type === undefined ? {} : { type }),
  });
}

function makeError(code: Errno, message: string, details: ErrorDetails): KernelError {
  return code === "ETERMINAL" ? new TerminalError(message, details) : new KernelError(code, message, details);
}

/** Makes an error of its stored form. */
export function fromErrorRecord(record: ErrorRecord): KernelError {
  const message = plainMessage(record.message);
  const cause = record.causes
    ?.toReversed()
    .reduce<Error | undefined>((inner, text) => causeOf(text, inner === undefined ? {} : { cause: inner }), undefined);
  // Whoever has made the record may not have known the table.
  const code = isErrno(record.code) ? record.code : "EIO";
  return makeError(code, message, { ...record, ...(cause === undefined ? {} : { cause }) });
}

/** One line about anything that was thrown; never throws itself. */
export function describe(error: unknown): string {
  try {
    if (error instanceof Error) return clip(error.message === "" ? error.name : error.message);
    if (typeof error === "string") return clip(error);
    const text = String(error);
    return clip(text === "[object Object]" ? JSON.stringify(error) : text);
  } catch {
    return "a value that cannot be shown";
  }
}

const clip = (text: string): string => (text.length > 2000 ? `${text.slice(0, 2000)}…` : text);
