// A thread that syncs the write-ahead log and checkpoints it, so that neither stalls the loop.
//
// It needs about 40 ms to come up; until then, and while it checkpoints, syncs go to libuv's pool.
// The two sides share four numbers: the ticket of the last request, of the last answer, what is asked, and
// the errno of the answer. One request is under way at a time.

import { type Worker as NodeWorker, Worker } from "node:worker_threads";
import { fdatasync } from "node:fs";

const REQUEST = 0;
const ANSWER = 1;
const COMMAND = 2;
const RESULT = 3;

const SYNC = 1;
const CHECKPOINT = 2;
const QUIT = 3;

const OK = 0;
const EIO = 5;

/** Runs in the thread; its text is shipped, so it may use nothing from outside its body. */
function threadMain(): void {
  const { workerData, parentPort } = process.getBuiltinModule("node:worker_threads");
  const { fdatasyncSync } = process.getBuiltinModule("node:fs");
  const { DatabaseSync } = process.getBuiltinModule("node:sqlite");
  // Handed over by `SyncThread.start`.
  const { shared, fd, file } = workerData as { shared: Int32Array; fd: number; file: string };
  let db: InstanceType<typeof DatabaseSync> | undefined;
  parentPort?.postMessage("ready");
  for (let seen = 0; ;) {
    Atomics.wait(shared, 0, seen);
    seen = Atomics.load(shared, 0);
    const command = Atomics.load(shared, 2);
    let result = 0;
    try {
      if (command === 1) fdatasyncSync(fd);
      else if (command === 2) {
        db ??= new DatabaseSync(file, { timeout: 0 });
        // Backfills as far as it can without waiting for anybody, and syncs the database file.
        const row = db.prepare("PRAGMA wal_checkpoint(PASSIVE)").get() as { log: number; checkpointed: number };
        result = row.log - row.checkpointed;
      }
    } catch (error) {
      // Errors of the filesystem carry `errno`, those of SQLite `errcode`; EIO stands for anything else.
      const { errno, errcode } = error as { errno?: number; errcode?: number };
      result = -Math.abs(errno ?? errcode ?? 5);
    }
    if (command === 3) db?.close();
    Atomics.store(shared, 3, result);
    Atomics.store(shared, 1, seen);
    Atomics.notify(shared, 1);
    if (command === 3) return;
  }
}

export class SyncThread {
  readonly #shared = new Int32Array(new SharedArrayBuffer(16));
  readonly #fd: number;
  readonly #file: string;
  #worker: NodeWorker | undefined;
  #isReady = false;
  #isBusy = false;
  /** Fails the request under way. */
  #abandon: (() => void) | undefined;

  constructor(fd: number, file: string) {
    this.#fd = fd;
    this.#file = file;
  }

  /** Starts the thread beside the caller's work. Idempotent. */
  start(): void {
    if (this.#worker !== undefined) return;
    const worker = new Worker(`(${threadMain.toString()})()`, {
      eval: true,
      name: "ergos-sync",
      workerData: { shared: this.#shared, fd: this.#fd, file: this.#file },
      // Its heap holds a handful of objects.
      resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
    });
    worker.unref();
    worker.once("message", () => (this.#isReady = true));
    // A thread that cannot run leaves the work to libuv's pool; what it was asked has failed.
    worker.on("error", () => {
      this.#isReady = false;
      this.#abandon?.();
    });
    this.#worker = worker;
  }

  get canCheckpoint(): boolean {
    return this.#isReady && !this.#isBusy;
  }

  /** Syncs the log; `done` gets the error, if any. */
  sync(done: (error: Error | undefined) => void): void {
    if (!this.#isReady || this.#isBusy) {
      fdatasync(this.#fd, (error) => done(error ?? undefined));
      return;
    }
    this.#ask(SYNC, (result) => done(result === OK ? undefined : new Error(`fdatasync failed with errno ${-result}`)));
  }

  /** Copies the log into the database; `done` gets the frames left over, or a negative number on failure. */
  checkpoint(done: (framesLeft: number) => void): void {
    this.#ask(CHECKPOINT, done);
  }

  async stop(): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) return;
    if (this.#isReady && !this.#isBusy) await new Promise<void>((resolve) => this.#ask(QUIT, () => resolve()));
    this.#worker = undefined;
    this.#isReady = false;
    await worker.terminate();
  }

  #ask(command: number, done: (result: number) => void): void {
    this.#isBusy = true;
    // Waiting for the answer does not keep the loop alive by itself.
    this.#worker?.ref();
    const shared = this.#shared;
    const before = Atomics.load(shared, ANSWER);
    Atomics.store(shared, COMMAND, command);
    Atomics.add(shared, REQUEST, 1);
    Atomics.notify(shared, REQUEST);
    const finish = (): void => {
      this.#abandon = undefined;
      this.#isBusy = false;
      this.#worker?.unref();
      done(Atomics.load(shared, RESULT));
    };
    this.#abandon = () => {
      this.#abandon = undefined;
      this.#isBusy = false;
      done(-EIO);
    };
    const waiting = Atomics.waitAsync(shared, ANSWER, before);
    if (waiting.async) void waiting.value.then(() => this.#abandon !== undefined && finish());
    else finish();
  }
}
