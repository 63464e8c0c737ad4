// Programs of children, good and bad.
import { spawn } from "node:child_process";
import { isMainThread, threadId, workerData } from "node:worker_threads";

export const add = async ({ a, b }, ctx) => ctx.step("add", () => a + b);
export const environment = () => Object.keys(process.env).sort();
export const prints = async (_input, ctx) => {
  console.log("to stdout");
  console.error("to stderr");
  await ctx.log("by itself");
  return "printed";
};
export const writes = async (_input, ctx) => ctx.os.fs.writeFile("/etc/x", "x");
export const throws = () => {
  throw new TypeError("on purpose");
};
export const exits = () => {
  console.error("last words");
  process.exit(0);
};
export const crashes = () => process.abort();
export const hangs = (_input, ctx) => new Promise(() => ctx.signal);
export const blocks = () => {
  for (;;);
};
export const eats = () => {
  const all = [];
  for (;;) all.push(new Array(100_000).fill(Math.random()));
};
export const floods = async () => {
  const line = `${"x".repeat(1023)}\n`;
  for (let at = 0; at < 10_000; at++)
    if (!process.stdout.write(line)) await new Promise((go) => process.stdout.once("drain", go));
  return "flooded";
};
export const endless = async () => {
  process.stdout.write("y".repeat(100_000));
  return "no line";
};
/** Leaves a grandchild in a session of its own, and tells its number. */
export const forks = async (_input, ctx) => {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { detached: true, stdio: "ignore" });
  child.unref();
  await ctx.log(`grandchild ${child.pid}`);
  return child.pid;
};
export const whoami = () => ({ pid: process.pid, isMain: isMainThread });
export const recurses = () => recurses() + 1;
/** Calls without ever waiting for an answer, nor letting anybody answer. */
export const shouts = (_input, ctx) => {
  for (;;) void ctx.os.fs.exists("x".repeat(4000)).catch(() => undefined);
};
/** Writes to its port what is no message of the wire, as much as it can. */
export const babbles = () => {
  for (;;) workerData.ergos.postMessage(new Uint8Array(1 << 20).fill(1));
};
/** Ends its thread in its first two lives. */
export const stumbles = async (_input, ctx) => {
  for (let life = 1; life < 3; life++) {
    const died = await ctx.step(`life ${life}`, () => threadId);
    await ctx.os.flush();
    if (died === threadId) process.exit(0);
  }
  return 3;
};
/** Dies by a signal of the machine in its first life. */
export const dies = async (_input, ctx) => {
  const first = await ctx.step("first", () => process.pid);
  await ctx.os.flush();
  if (first === process.pid) process.kill(process.pid, "SIGKILL");
  return { first, now: process.pid };
};
export const politely = async (_input, ctx) => {
  const heard = [];
  void (async () => {
    for await (const signal of ctx.signals()) heard.push(signal);
  })();
  await ctx.log("ready");
  await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve));
  return heard;
};
export const serves = (_input, ctx) =>
  ctx.serve(async (task, inner) => {
    if (task.fail) throw new RangeError("no such task");
    return { did: task, pid: process.pid, step: await inner.step("square", () => task.number ** 2) };
  });
export const garbage = () => undefined;

export const pid = () => process.pid;

/** Doubles what comes on one shared stream, and puts it on another: after the first look, no call is made for it. */
export async function doubles({ from, to, count }, ctx) {
  const [inbox, outbox] = [await ctx.os.fs.stream(from).share(), await ctx.os.fs.stream(to).share()];
  await ctx.os.fs.pipe("/srv/ready").write("x");
  for (let done = 0, position; done < count;) {
    const entry = inbox.next(position);
    if (entry === undefined) {
      inbox.block(position ?? 0, 1000);
      continue;
    }
    position = entry.seq;
    done++;
    outbox.append([Uint8Array.of(2 * entry.bytes[0])]);
  }
  return ctx.calls;
}

export const shares = async ({ path }, ctx) => (await ctx.os.fs.stream(path).share()).entryMax;
export const noJson = () => ({ a: [1, undefined] });

export const place = () => ({ pid: process.pid, spare: process.env.ERGOS_SPARE ?? null });
