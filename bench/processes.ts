// Processes, messages and events: spawn and exit, children of the machine, mailboxes, heap, resumption.

import { spawnSync } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type Socket, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { ProcessRuntime } from "@ergos/drivers/runtime-process";
import { createWorkerRuntime } from "@ergos/drivers/runtime-worker";
import type { Program } from "@ergos/kernel";
import { type RunContext, bootHost, program } from "ergos";
import { openFloor } from "./durable.ts";
import { withHost } from "./host.ts";
import { type Bench, type Result, alternate, microsecondsPer, toResult } from "./measure.ts";

const cli = join(import.meta.dirname, "../packages/cli");
const noop = program("noop", () => 1);

const spawnExit: Bench = {
  name: "process spawn",
  run: async () => {
    const results: Result[] = [];
    await withHost({ inMemory: true }, async ({ kernel: { os } }) => {
      const count = 2000;
      const volatile = async (): Promise<void> => {
        for (let at = 0; at < count; at++) await os.wait(await os.spawn(noop, { durable: false }));
      };
      const samples = await alternate(20, { spawn: () => microsecondsPer(count, volatile) });
      results.push(
        toResult("spawn and exit of a volatile inline process", "µs", samples["spawn"] ?? [], { target: 25 }),
      );
    });
    await withHost({}, async ({ kernel: { os } }, dir) => {
      const floor = openFloor(dir);
      const alone = async (): Promise<void> => {
        for (let at = 0; at < 50; at++) {
          await os.wait(await os.spawn(noop));
          await os.flush();
        }
      };
      for (let round = 0; round < 40; round++) await alone();
      const samples = await alternate(20, {
        spawn: () => microsecondsPer(50, alone),
        many: () =>
          microsecondsPer(1000, async () => {
            await Promise.all(Array.from({ length: 1000 }, async () => os.wait(await os.spawn(noop))));
            await os.flush();
          }),
        floor: () => microsecondsPer(50, () => floor.run(50)),
      });
      floor.close();
      const base = samples["floor"] ?? [];
      results.push(
        toResult("spawn and flushed exit of a durable process", "µs", samples["spawn"] ?? [], {
          floor: base,
          target: 1.7,
        }),
        toResult("the same, each of 1,000 at once", "µs", samples["many"] ?? [], { floor: base, target: 1 / 8 }),
      );
    });
    return results;
  },
};

const messages: Bench = {
  name: "process messages",
  run: async () => {
    const results: Result[] = [];
    const count = 1000;
    const reader = program("reader", (_input: unknown, ctx: RunContext) => ctx.receive("never", { kind: "task" }));
    await withHost({ inMemory: true }, async ({ kernel }) => {
      const pid = await kernel.os.spawn(reader, { durable: false });
      const os = kernel.osOf(pid);
      const pass = async (): Promise<void> => {
        for (let at = 0; at < count; at++) {
          await kernel.os.call("send", { to: pid, body: at });
          await os.call("receive", { waitMs: 0 });
        }
      };
      const samples = await alternate(30, { message: () => microsecondsPer(count, pass) });
      results.push(toResult("a volatile message, sent and received", "µs", samples["message"] ?? [], { target: 3 }));
    });
    await withHost({}, async ({ kernel }) => {
      const { os } = kernel;
      const sender = program("sender", async (to: number, ctx: RunContext) => {
        for (let at = 0; at < 50; at++) await ctx.send(`s${at}`, to, at);
      });
      const commits = async (): Promise<void> => {
        const text = JSON.stringify({ from: 2, to: 3, kind: "message", body: 1 });
        for (let at = 0; at < 50; at++)
          await kernel.host.committer.commit({
            puts: [{ key: `bench/${at}`, value: text }],
            appends: [{ log: "bench", value: text }],
          });
      };
      const drained = async (to: Awaited<ReturnType<typeof os.spawn>>): Promise<void> => os.kill(to);
      const samples = await alternate(20, {
        message: async () => {
          const to = await os.spawn(reader);
          const us = await microsecondsPer(50, async () => os.wait(await os.spawn(sender, { input: to })));
          await drained(to);
          return us;
        },
        commit: () => microsecondsPer(50, commits),
        many: async () => {
          const to = await Promise.all(Array.from({ length: 100 }, () => os.spawn(reader)));
          const us = await microsecondsPer(100 * 50, () =>
            Promise.all(to.map(async (pid) => os.wait(await os.spawn(sender, { input: pid })))),
          );
          await Promise.all(to.map(drained));
          return us;
        },
      });
      const floor = samples["commit"] ?? [];
      results.push(
        toResult(
          "a durable message that is sent, over a commit of one put and one append",
          "µs",
          samples["message"] ?? [],
          {
            floor,
            target: 1.3,
          },
        ),
        toResult("the same, each of 100 senders at once", "µs", samples["many"] ?? [], { floor }),
      );
    });
    return results;
  },
};

const events: Bench = {
  name: "process events",
  run: () =>
    withHost({ inMemory: true }, async ({ kernel: { host } }) => {
      const count = 100_000;
      let heard = 0;
      const emitter = new EventEmitter();
      emitter.on("n", () => heard++);
      const stop = host.bus.observe({ names: ["process.progress"] }, () => heard++);
      const event = { name: "process.progress", pid: host.owner.pid, data: { done: 1, total: 2 } } as const;
      const samples = await alternate(20, {
        publish: () =>
          microsecondsPer(count, () => {
            for (let at = 0; at < count; at++) host.bus.publish(event);
          }),
        emit: () =>
          microsecondsPer(count, () => {
            for (let at = 0; at < count; at++) emitter.emit("n", event);
          }),
      });
      stop();
      return [
        toResult("an event with one observer, over EventEmitter", "µs", samples["publish"] ?? [], {
          floor: samples["emit"] ?? [],
          target: 1.5,
        }),
      ];
    }),
};

/** Milliseconds from a spawn to the first call of a child's program, over the start of bare node. */
const children: Bench = {
  name: "process children",
  run: async () => {
    const folder = mkdtempSync(join(tmpdir(), "ergos-children-"));
    const module = join(folder, "child.mjs");
    writeFileSync(
      module,
      `export const first = (_input, ctx) => ctx.log("here");
export const calls = async (count, ctx) => {
  const call = () => ctx.os.call("beat", {});
  for (let at = 0; at < count; at++) await call();
  const started = performance.now();
  for (let at = 0; at < count; at++) await call();
  return ((performance.now() - started) * 1000) / count;
};
`,
    );
    // As it is published: the launcher and the bundle, without the sources.
    const bundle = join(cli, "dist/program.js");
    const built = existsSync(bundle);
    if (built) {
      for (const name of ["bin", "dist"]) mkdirSync(join(folder, name));
      copyFileSync(join(cli, "bin/ergos-child.js"), join(folder, "bin/ergos-child.js"));
      copyFileSync(bundle, join(folder, "dist/program.js"));
      writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    } else console.error("left out: children of the built command line (npm run build); these are from sources");
    const bootstrap = join(built ? folder : cli, "bin/ergos-child.js");
    const cold = new ProcessRuntime({ bootstrap: [bootstrap], owner: "bench" });
    const warm = new ProcessRuntime({ bootstrap: [bootstrap], owner: "bench", spares: 1 });
    const runtimes = {
      process: cold.toProgram.bind(cold),
      warm: warm.toProgram.bind(warm),
      worker: createWorkerRuntime({ bootstrap }),
    };
    try {
      return await withHost({ inMemory: true }, async ({ kernel: { os } }) => {
        const of = (name: string, runtime: keyof typeof runtimes): Program =>
          runtimes[runtime]({ module, export: name, name }, "1");
        const toFirst = async (runtime: keyof typeof runtimes): Promise<number> => {
          const started = performance.now();
          const said = os.events({ names: ["process.log"] });
          const pid = await os.spawn(of("first", runtime));
          const isOver = os.wait(pid).then((exit): never => {
            throw new TypeError(`the child of ${runtime} ended before its first call: ${JSON.stringify(exit)}`);
          });
          await Promise.race([said.next(), isOver]);
          isOver.catch(() => undefined);
          const ms = performance.now() - started;
          await os.wait(pid);
          return ms;
        };
        const samples = await alternate(12, {
          process: () => toFirst("process"),
          // One is ready when the other measurements have been made.
          warm: () => toFirst("warm"),
          worker: () => toFirst("worker"),
          bareNode: () => timed(() => spawnSync(process.execPath, ["-e", "0"], { stdio: "ignore" })),
          bareWorker: async () => {
            const started = performance.now();
            const worker = new Worker("0", { eval: true });
            await once(worker, "exit");
            return performance.now() - started;
          },
          pause: async () => {
            await new Promise((go) => setTimeout(go, 300));
            return 0;
          },
          call: async () => (await os.wait(await os.spawn(of("calls", "process"), { input: 2000 }))).result as number,
          socket: () => socketRoundTrip(2000),
        });
        const how = built ? "built" : "from sources";
        return [
          toResult(`a child process from spawn to its program's first call, ${how}`, "ms", samples["process"] ?? [], {
            floor: samples["bareNode"] ?? [],
            target: 1.15,
          }),
          toResult("the same, of a child that is ready", "ms", samples["warm"] ?? [], { target: 1 }),
          toResult(
            "a worker thread from spawn to its program's first call, over a bare one",
            "ms",
            samples["worker"] ?? [],
            {
              floor: samples["bareWorker"] ?? [],
            },
          ),
          toResult(
            "a system call of a child process, over a round trip on a unix socket",
            "µs",
            samples["call"] ?? [],
            {
              floor: samples["socket"] ?? [],
              target: 1.25,
            },
          ),
        ];
      });
    } finally {
      warm.close();
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

function timed(work: () => unknown): number {
  const started = performance.now();
  work();
  return performance.now() - started;
}

/** Microseconds of one byte there and back between two processes of Node. */
async function socketRoundTrip(count: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "ergos-socket-"));
  const path = join(folder, "s");
  const code = `const s=require("net").createConnection(${JSON.stringify(path)});s.on("data",(d)=>s.write(d));s.on("error",()=>0);s.on("close",()=>process.exit())`;
  const server = createServer();
  server.listen(path);
  await once(server, "listening");
  const { spawn } = await import("node:child_process");
  const child = spawn(process.execPath, ["-e", code], { stdio: "ignore" });
  const [socket] = (await once(server, "connection")) as [Socket];
  const turn = (): Promise<unknown> => {
    const back = once(socket, "data");
    socket.write("x");
    return back;
  };
  for (let at = 0; at < count; at++) await turn();
  const us = await microsecondsPer(count, async () => {
    for (let at = 0; at < count; at++) await turn();
  });
  socket.destroy();
  server.close();
  await once(child, "exit");
  rmSync(folder, { recursive: true, force: true });
  return us;
}

/** In the embedded store: what its records take is on the disk. */
const waitingHeap: Bench = {
  name: "process heap",
  run: () =>
    withHost({}, async ({ kernel }) => {
      const collect = globalThis.gc;
      if (collect === undefined) throw new TypeError("run the benchmarks with --expose-gc, as `npm run bench` does");
      kernel.activate();
      const waiting = program("waiting", async (_input: unknown, ctx: RunContext) => ctx.receive("letter"));
      const sleeping = program("sleeping", async (_input: unknown, ctx: RunContext) => ctx.hibernate("night"));
      const heapOf = async (of: typeof waiting | typeof sleeping): Promise<number> => {
        collect();
        collect();
        const before = process.memoryUsage().heapUsed;
        const pids = await Promise.all(Array.from({ length: 1000 }, () => kernel.os.spawn(of)));
        // Until the records are on the disk and the audit has sealed its own.
        await new Promise((go) => setTimeout(go, 1500));
        collect();
        collect();
        const kib = (process.memoryUsage().heapUsed - before) / 1000 / 1024;
        await Promise.all(pids.map((pid) => kernel.os.kill(pid, "KILL")));
        return kib;
      };
      const samples = await alternate(4, { waiting: () => heapOf(waiting), sleeping: () => heapOf(sleeping) });
      return [
        toResult("heap of an inline process that waits for a message", "KiB", samples["waiting"] ?? [], { target: 6 }),
        toResult("heap of a sleeping process", "KiB", samples["sleeping"] ?? []),
      ];
    }),
};

const resumption: Bench = {
  name: "process resumption",
  run: async () => {
    const dir = mkdtempSync(join(tmpdir(), "ergos-resume-"));
    const patient = program("patient", async (_input: unknown, ctx: RunContext) => {
      for (let at = 0; at < 10; at++) await ctx.step(`s${at}`, () => at);
      return ctx.receive("letter");
    });
    const programs = [patient];
    try {
      const first = await bootHost({ dir, serve: false, programs });
      await Promise.all(Array.from({ length: 1000 }, () => first.kernel.os.spawn("patient")));
      await first.kernel.os.flush();
      await new Promise((go) => setTimeout(go, 200));
      await first.close();
      const samples: number[] = [];
      for (let round = 0; round < 5; round++) {
        const started = performance.now();
        const host = await bootHost({ dir, serve: false, programs });
        const { os } = host.kernel;
        for (const { pid, state } of await os.ps()) if (state === "sleeping") await os.resume(pid);
        samples.push(performance.now() - started);
        await host.close();
      }
      return [
        toResult("start of a host and resumption of 1,000 durable processes of ten steps", "ms", samples, {
          target: 2000,
        }),
      ];
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  },
};

export const processBenches: readonly Bench[] = [spawnExit, messages, events, children, waitingHeap, resumption];
