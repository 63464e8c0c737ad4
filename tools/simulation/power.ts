// Simulated losses of power, from a trace of the system calls of a real store.
//
// A child writes under strace. Its trace is replayed into images of the disk: everything that a finished sync
// covers, plus any subset, at 512 bytes a piece, of what was written since. SQLite opens each image; what the
// child had been told was flushed must be there, and what is there must be a prefix.
// The control run ignores the store's own syncs and must lose something: otherwise the simulation proves nothing.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { SqliteMetastore } from "@ergos/drivers/sqlite";
import { assertPrefix } from "./power-model.ts";
import { type Chance, createChance } from "./random.ts";

const SECTOR = 512;
const FILES = ["store.db", "store.db-wal"] as const;
type FileName = (typeof FILES)[number];

type Event =
  | { readonly kind: "write"; readonly file: FileName; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: "truncate"; readonly file: FileName; readonly size: number }
  /** A sync that ended here covers what was written before it began, at event number `covers`. */
  | { readonly kind: "sync"; readonly file: FileName; readonly covers: number; readonly isOurs: boolean }
  | { readonly kind: "told"; readonly seq: number }
  | { readonly kind: "ready" };

export interface PowerReport {
  readonly cuts: number;
  /** Cuts after which something that was told to be flushed was missing. */
  readonly lost: number;
  readonly checkpoints: number;
}

/** Whether this machine can run it; the reason if not. */
export function powerSimulationMissing(): string | undefined {
  const probe = spawnSync("strace", ["-f", "-o", "/dev/null", "true"], { stdio: "ignore" });
  return probe.status === 0 ? undefined : "strace (Debian: strace) is not installed or may not trace here";
}

/** Cuts the power `cuts` times. With `ignoreOurSyncs` it is the control run, which counts losses instead of failing. */
export async function cutPower(options: {
  readonly seed: number;
  readonly cuts: number;
  readonly commits?: number;
  readonly ignoreOurSyncs?: boolean;
}): Promise<PowerReport> {
  const scratch = mkdtempSync(join(tmpdir(), "ergos-power-"));
  try {
    const events = trace(scratch, options.commits ?? 360);
    const ready = events.findIndex(({ kind }) => kind === "ready");
    const chance = createChance(options.seed);
    let lost = 0;
    for (let cut = 0; cut < options.cuts; cut++) {
      const at = chance.between(ready + 1, events.length);
      const told = events
        .slice(0, at)
        .reduce((seq, event) => (event.kind === "told" ? Math.max(seq, event.seq) : seq), 0);
      const image = join(scratch, `image-${cut}`);
      writeImage(image, events.slice(0, at), chance, options.ignoreOurSyncs === true);
      const found = await recover(image).catch((error: unknown) => {
        if (options.ignoreOurSyncs === true) return -1;
        throw new TypeError(
          `cut ${cut} of seed ${options.seed} at event ${at}: ${error instanceof Error ? error.message : String(error)}`,
          { cause: error },
        );
      });
      if (found < told) {
        lost++;
        if (options.ignoreOurSyncs !== true)
          throw new TypeError(
            `cut ${cut} of seed ${options.seed} at event ${at}: flushed up to ${told}, found ${found}`,
          );
      }
      rmSync(image, { recursive: true, force: true });
    }
    const checkpoints = events.filter((event) => event.kind === "sync" && event.file === "store.db").length;
    return { cuts: options.cuts, lost, checkpoints };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function recover(image: string): Promise<number> {
  const store = await SqliteMetastore.open({ dir: image, thread: false });
  try {
    await assertPrefix(store);
    return store.seq;
  } finally {
    await store.close();
  }
}

function trace(scratch: string, commits: number): readonly Event[] {
  const file = join(scratch, "trace");
  const data = join(scratch, "data");
  const child = join(import.meta.dirname, "power-child.ts");
  const done = spawnSync(
    "strace",
    [
      "-f",
      "-xx",
      "-s",
      "2000000",
      "-e",
      "trace=openat,close,write,pwrite64,ftruncate,fsync,fdatasync",
      "-o",
      file,
      process.execPath,
      "--conditions=@ergos/source",
      child,
      data,
      String(commits),
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const text = readFileSync(file, "latin1");
  if (!text.includes("SIGKILL"))
    throw new TypeError(`the traced child did not come to its end: ${done.stderr.toString()}`);
  return parse(text);
}

interface Descriptor {
  readonly file: FileName;
  readonly isOurs: boolean;
}

/** Reads strace's lines. A call that another thread interrupted stands in two lines. */
function parse(text: string): readonly Event[] {
  const events: Event[] = [];
  const open = new Map<number, Descriptor>();
  const unfinished = new Map<string, { readonly head: string; readonly startedAt: number }>();
  for (const line of text.split("\n")) {
    const [, thread = "", rest = ""] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
    if (rest.endsWith("<unfinished ...>")) {
      unfinished.set(thread, { head: rest.slice(0, -16), startedAt: events.length });
      continue;
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest);
    const begun = resumed === null ? undefined : unfinished.get(thread);
    apply(
      begun === undefined ? rest : begun.head + (resumed?.[1] ?? ""),
      begun?.startedAt ?? events.length,
      open,
      events,
    );
  }
  return events;
}

function apply(call: string, startedAt: number, open: Map<number, Descriptor>, events: Event[]): void {
  const match = /^(\w+)\((.*)\)\s*=\s*(-?\d+)/.exec(call);
  if (match === null) return;
  const [, name = "", args = "", answer = ""] = match;
  const result = Number(answer);
  if (result < 0) return;
  if (name === "openat") {
    const path = decode(/"((?:\\x[0-9a-f]{2})*)"/.exec(args)?.[1] ?? "").toString();
    const file = FILES.find((known) => basename(path) === known);
    // SQLite creates its log; our second descriptor only opens it.
    if (file !== undefined) open.set(result, { file, isOurs: !args.includes("O_CREAT") });
    else open.delete(result);
    return;
  }
  const fd = Number(/^(\d+)/.exec(args)?.[1] ?? -1);
  if (name === "close") return void open.delete(fd);
  if (name === "write" && fd === 1)
    return tell(decode(/"((?:\\x[0-9a-f]{2})*)"/.exec(args)?.[1] ?? "").toString(), events);
  const descriptor = open.get(fd);
  if (descriptor === undefined) return;
  const { file, isOurs } = descriptor;
  if (name === "pwrite64") {
    const bytes = decode(/"((?:\\x[0-9a-f]{2})*)"/.exec(args)?.[1] ?? "");
    events.push({
      kind: "write",
      file,
      offset: Number(/(\d+)\s*$/.exec(args)?.[1] ?? 0),
      bytes: bytes.subarray(0, result),
    });
  } else if (name === "ftruncate")
    events.push({ kind: "truncate", file, size: Number(/(\d+)\s*$/.exec(args)?.[1] ?? 0) });
  else if (name === "fsync" || name === "fdatasync") events.push({ kind: "sync", file, covers: startedAt, isOurs });
}

function tell(text: string, events: Event[]): void {
  for (const line of text.split("\n")) {
    if (line === "ready") events.push({ kind: "ready" });
    else if (line.startsWith("flushed ")) events.push({ kind: "told", seq: Number(line.slice(8)) });
  }
}

const decode = (hex: string): Buffer => Buffer.from(hex.replaceAll("\\x", ""), "hex");

/** The disk after the loss: what is synced, and any part of the rest. */
function writeImage(dir: string, events: readonly Event[], chance: Chance, ignoreOurSyncs: boolean): void {
  mkdirSync(dir, { recursive: true });
  const synced: Record<FileName, number> = { "store.db": 0, "store.db-wal": 0 };
  for (const event of events) {
    if (event.kind === "sync" && !(ignoreOurSyncs && event.isOurs && event.file === "store.db-wal"))
      synced[event.file] = Math.max(synced[event.file], event.covers);
  }
  // How much of the rest reached the disk differs from loss to loss: nothing, everything, or any part.
  const share = [0, 0.3, 0.7, 1][chance.between(0, 3)] ?? 0;
  for (const file of FILES) writeFileSync(join(dir, file), makeImage(file, events, synced[file], share, chance));
}

function makeImage(file: FileName, events: readonly Event[], synced: number, share: number, chance: Chance): Buffer {
  const most = events.reduce(
    (size, event) =>
      event.kind === "write" && event.file === file ? Math.max(size, event.offset + event.bytes.length) : size,
    0,
  );
  const image = Buffer.alloc(most);
  let size = 0;
  for (const [at, event] of events.entries()) {
    if ((event.kind !== "write" && event.kind !== "truncate") || event.file !== file) continue;
    const isSafe = at < synced;
    if (event.kind === "truncate") {
      if (!isSafe && chance.next() >= share) continue;
      if (event.size < size) image.fill(0, event.size, size);
      size = Math.min(most, event.size);
    } else if (isSafe || share === 1) {
      event.bytes.copy(image, event.offset);
      size = Math.max(size, event.offset + event.bytes.length);
    } else if (share > 0) {
      for (let from = 0; from < event.bytes.length; from += SECTOR) {
        if (chance.next() >= share) continue;
        const part = event.bytes.subarray(from, from + SECTOR);
        part.copy(image, event.offset + from);
        size = Math.max(size, event.offset + from + part.length);
      }
    }
  }
  return image.subarray(0, size);
}
