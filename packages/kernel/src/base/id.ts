// Branded ids, made only by their constructors here.

declare const brand: unique symbol;
type Brand<Base, Name extends string> = Base & { readonly [brand]: Name };

/** A process: a positive integer, never reused in a data directory. 1 is the owner's process. */
export type Pid = Brand<number, "Pid">;
/** A position in the order of commits of one metastore; 0 is before the first. */
export type Seq = Brand<number, "Seq">;
/** An inode number of the zone's filesystem; 1 is its root. */
export type Ino = Brand<number, "Ino">;
/** An open file of one process. */
export type Fd = Brand<number, "Fd">;
/** Names stored bytes by their hash: `sha256-<hex>`. */
export type ContentId = Brand<string, "ContentId">;
/** Names a run for people and URLs; unique in a data directory. */
export type RunId = Brand<string, "RunId">;

export const toPid = (value: number): Pid => value as Pid;
export const toSeq = (value: number): Seq => value as Seq;
export const toIno = (value: number): Ino => value as Ino;
export const toFd = (value: number): Fd => value as Fd;
export const toRunId = (value: string): RunId => value as RunId;

const CONTENT_ID = /^sha256-[0-9a-f]{64}$/;

/** Parses a content id; `undefined` when it is none. */
export function parseContentId(text: string): ContentId | undefined {
  return CONTENT_ID.test(text) ? (text as ContentId) : undefined;
}

export const PID_OWNER: Pid = toPid(1);
export const INO_ROOT: Ino = toIno(1);
export const SEQ_ZERO: Seq = toSeq(0);
