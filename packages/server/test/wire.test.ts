import { getEventListeners } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { type Socket, createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type KernelEvent, toSeq } from "@ergos/kernel";
import { type ErgOs, connect, program } from "ergos";
import { FrameReader, encodeFrame } from "@ergos/protocol";
import { controlSocketPath, ownerPassPath } from "@ergos/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

let dir: string;
let host: ErgOs;
let remote: ErgOs;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "ergos-wire-"));
  host = await connect({
    dir,
    programs: [
      program("add", ({ a, b }: { a: number; b: number }) => a + b),
      program(
        "wait",
        (_input, ctx) =>
          new Promise((_resolve, reject) =>
            ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason as Error)),
          ),
      ),
    ],
  });
  remote = await connect({ dir });
});
afterEach(async () => {
  await remote.close();
  await host.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A raw client: what it receives, message by message. */
async function dial(): Promise<{
  socket: Socket;
  send: (message: unknown, bytes?: Uint8Array) => void;
  next: () => Promise<Record<string, unknown>>;
}> {
  const socket = createConnection(controlSocketPath(dir));
  await new Promise((resolve) => socket.once("connect", resolve));
  const reader = new FrameReader();
  const queue: Record<string, unknown>[] = [];
  let wake: (() => void) | undefined;
  socket.on("data", (chunk: Buffer) => {
    for (const { message } of reader.push(chunk)) queue.push(message as Record<string, unknown>);
    wake?.();
  });
  socket.on("close", () => {
    queue.push({ t: "closed" });
    wake?.();
  });
  socket.on("error", () => undefined);
  return {
    socket,
    send: (message, bytes) => encodeFrame(message, bytes).forEach((part) => socket.write(part)),
    next: async () => {
      while (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      return queue.shift() ?? {};
    },
  };
}

const hello = () => ({
  t: "hello",
  versions: [1],
  client: "test",
  pass: readFileSync(ownerPassPath(dir), "utf8").trim(),
});

describe("the control socket", () => {
  test("only the owner can open it", () => {
    expect(statSync(controlSocketPath(dir)).mode & 0o777).toBe(0o600);
    expect(statSync(dir).mode & 0o077).toBe(0);
  });

  test("another process works through it as if it were its own", async () => {
    expect(remote.isRemote).toBe(true);
    await remote.fs.writeFile("/home/a", new Uint8Array([0, 255, 10]));
    expect(Array.from(await remote.fs.read("/home/a"))).toEqual([0, 255, 10]);
    expect(await remote.run("add", { input: { a: 2, b: 3 } })).toBe(5);
    await expect(remote.fs.read("/home/absent")).rejects.toMatchObject({ code: "ENOENT", path: "/home/absent" });
    await using handle = await remote.fs.open("/home/a", ["read"]);
    expect((await handle.read()).length).toBe(3);
  });

  test("nobody gets in without a pass, and whoever shows one acts with its rights alone", async () => {
    await host.fs.writeFile("/srv/a", "public");
    await host.fs.writeFile("/etc/a", "secret");
    const { pass, id } = (await host.call("issuePass", { grants: ["fs.read:/srv/**", "fs.stat"], user: "jane" })) as {
      pass: string;
      id: string;
    };
    const client = await dial();
    client.send({ t: "hello", versions: [1], client: "test" });
    client.send({ t: "call", id: 1, name: "read", args: { path: "/etc/a" } });
    expect(await client.next()).toMatchObject({ t: "bye", error: { code: "EACCES" } });
    const jane = await connect({ dir, pass });

    expect(await jane.fs.readText("/srv/a")).toBe("public");
    await expect(jane.fs.read("/etc/a")).rejects.toMatchObject({ code: "EACCES" });
    await expect(jane.spawn("add")).rejects.toMatchObject({ code: "EACCES" });
    expect((await host.ps({ pids: [jane.pid] }))[0]).toMatchObject({ user: "jane", state: "running" });
    expect(statSync(ownerPassPath(dir)).mode & 0o077).toBe(0);
    await host.call("revokePass", { id });
    await expect(connect({ dir, pass })).rejects.toThrow(/was revoked/);
    await jane.close();
  });

  test("a process waited for through it can be killed through it", async () => {
    const pid = await remote.spawn("wait");
    const exit = remote.wait(pid);
    await remote.kill(pid);

    expect(await exit).toMatchObject({ signal: "TERM" });
  });

  test("a signal for a process crosses it as what it is", async () => {
    const pid = await remote.spawn("wait");
    await remote.kill(pid, "STOP");
    expect((await remote.ps({ pids: [pid] }))[0]?.state).toBe("stopped");
    await remote.kill(pid, "CONT");
    expect((await remote.ps({ pids: [pid] }))[0]?.state).toBe("running");
    await remote.kill(pid, "KILL");

    expect(await remote.wait(pid)).toMatchObject({ signal: "KILL" });
  });

  test("pipes, streams and artifacts hold the bytes that were put in", async () => {
    await remote.fs.makePipe("/srv/bytes", {});
    for (const content of [new Uint8Array([0, 255, 7]), new Uint8Array(0), "text"])
      await remote.fs.pipe("/srv/bytes").write(content);
    await remote.fs.pipe("/srv/bytes").close();
    const read = async (): Promise<readonly number[] | null> => {
      const piece = await remote.fs.pipe("/srv/bytes").read();
      return piece === null ? null : [...piece];
    };
    expect([await read(), await read(), await read(), await read()]).toEqual([
      [0, 255, 7],
      [],
      [116, 101, 120, 116],
      null,
    ]);
    await remote.fs.makeStream("/srv/entries", {});
    await remote.call("streamAppend", {
      path: "/srv/entries",
      entries: [new Uint8Array([1, 2]), new Uint8Array(0), new Uint8Array([3])],
    });
    const seen: number[][] = [];
    for await (const { bytes } of remote.fs.stream("/srv/entries").read()) seen.push([...bytes]);
    expect(seen).toEqual([[1, 2], [], [3]]);
  });

  test("a call that its caller gives up ends in the host too, and takes nothing", async () => {
    await remote.fs.makePipe("/srv/p", {});
    const abort = new AbortController();
    const waits = [host, remote].map((os) => os.call("pipeRead", { path: "/srv/p", signal: abort.signal }));
    await new Promise((go) => setTimeout(go, 20));
    abort.abort(new Error("enough"));
    for (const waiting of waits) await expect(waiting).rejects.toThrow("enough");
    await remote.fs.pipe("/srv/p").write("kept");
    expect(new TextDecoder().decode((await remote.fs.pipe("/srv/p").read()) ?? new Uint8Array())).toBe("kept");
    // One that was given up before it was made is not made, and one that has ended is no matter any more.
    await expect((async () => remote.call("pipeRead", { path: "/srv/p", signal: abort.signal }))()).rejects.toThrow(
      "enough",
    );
    const done = new AbortController();
    await remote.call("pipeWrite", { path: "/srv/p", bytes: new Uint8Array(1), signal: done.signal });
    done.abort();
    expect(await remote.fs.pipe("/srv/p").read()).toHaveLength(1);
  });

  test("content is read into memory of the client", async () => {
    await host.fs.writeFile("/home/f", "0123456789");
    const into = new Uint8Array(4);
    expect([await remote.fs.readInto("/home/f", into, 3), ...into]).toEqual([4, 51, 52, 53, 54]);
    await using handle = await remote.fs.open("/home/f", ["read"]);
    expect([await handle.readInto(into, 9), into[0]]).toEqual([1, 57]);
    await expect(remote.fs.readInto("/home/f", "x" as never)).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("what would be another thing behind the wire is refused before it", async () => {
    await remote.fs.writeFile("/home/f", "kept");
    const writes = [{}, { bytes: "text" }, { bytes: [1, 2] }, { bytes: null }, { bytes: new ArrayBuffer(2) }];
    for (const args of writes)
      await expect((async () => remote.call("write", { path: "/home/f", ...args } as never))()).rejects.toMatchObject({
        code: "EINVAL",
      });
    expect(await host.fs.readText("/home/f")).toBe("kept");
    for (const args of [{ path: "/home/f", bytes: new Uint8Array(1) }, { path: 10n }, { path: new Date() }])
      await expect((async () => remote.call("stat", args as never))()).rejects.toMatchObject({ code: "EINVAL" });
    await expect((async () => remote.call("kill", { pid: remote.pid, signal: {} } as never))()).rejects.toMatchObject({
      code: "EINVAL",
    });
  });

  test("what is too large for it is told, and the connection stays", async () => {
    const huge = new Uint8Array(300 * 1024 * 1024);
    await expect(remote.fs.writeFile("/home/f", huge)).rejects.toMatchObject({ code: "E2BIG" });
    const text = "x".repeat(65 * 1024 * 1024);
    await expect((async () => remote.call("send", { to: host.pid, body: text }))()).rejects.toMatchObject({
      code: "E2BIG",
    });
    expect(await remote.fs.exists("/home/f")).toBe(false);
  });

  test("many who wait hold nobody up, and may give up", async () => {
    await remote.fs.makePipe("/srv/p", {});
    const abort = new AbortController();
    const waits = Array.from({ length: 600 }, () =>
      remote.call("pipeRead", { path: "/srv/p", signal: abort.signal }).then(
        () => "taken",
        () => "gave up",
      ),
    );
    await remote.fs.writeFile("/home/f", "still here");
    abort.abort();

    expect(new Set(await Promise.all(waits))).toEqual(new Set(["gave up"]));
  });

  test("what a client waited for that has gone, nobody takes", async () => {
    await host.fs.makePipe("/srv/p", {});
    const { lockId } = await host.call("lock", { path: "nightly", ttlMs: 60_000 });
    const gone = await connect({ dir });
    const waits = [gone.fs.pipe("/srv/p").read(), gone.call("lock", { path: "nightly", ttlMs: 60_000 })];
    for (const wait of waits) (wait as Promise<unknown>).catch(() => undefined);
    await vi.waitFor(async () => expect((await host.call("locks", {}))[0]?.waiting).toBe(1));
    await gone.close();
    await vi.waitFor(async () => expect((await host.call("locks", {}))[0]?.waiting).toBe(0));
    await host.fs.pipe("/srv/p").write("kept");
    expect(await host.fs.pipe("/srv/p").read({ waitMs: 0 })).toHaveLength(4);
    await host.call("unlock", { path: "nightly", lockId });
    expect(await host.call("locks", {})).toEqual([]);
  });

  test("following a stream ends with the reason of its signal, and leaves nothing on it", async () => {
    await remote.fs.makeStream("/srv/s", {});
    await remote.fs.stream("/srv/s").append(["a"]);
    const abort = new AbortController();
    const follow = async (): Promise<void> => {
      for await (const { bytes } of remote.fs.stream("/srv/s").read({ follow: true, signal: abort.signal }))
        if (bytes.length === 1) setTimeout(() => abort.abort(new Error("enough")), 10);
    };
    await expect(follow()).rejects.toThrow("enough");
    const signal = new AbortController().signal;
    for await (const { bytes } of remote.fs.stream("/srv/s").read({ signal })) expect(bytes).toHaveLength(1);
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  test("a watch streams, resumes, and ends when it is cancelled", async () => {
    for (let at = 0; at < 5; at++) await host.fs.writeFile(`/home/${at}`, "x");
    const seen: KernelEvent[] = [];
    const abort = new AbortController();
    for await (const event of remote.fs.watch("/home/**", { after: toSeq(0), signal: abort.signal })) {
      seen.push(event);
      if (seen.length === 5) abort.abort();
    }

    expect(seen.filter(({ name }) => name === "file.written")).toHaveLength(4);
  });

  test("a watch that is cancelled before it begins ends", async () => {
    const abort = new AbortController();
    abort.abort();
    let count = 0;
    for await (const event of remote.fs.watch("/home/**", { signal: abort.signal })) count += event.seq;

    expect(count).toBe(0);
  });

  test("five hundred calls at once are all answered", async () => {
    const answers = await Promise.all(
      Array.from({ length: 500 }, (_, at) => remote.fs.writeFile(`/home/many/${at}`, String(at))),
    );

    expect(answers).toHaveLength(500);
    expect(await remote.fs.readdir("/home/many")).toHaveLength(500);
  });

  test("handles of a client that went away are closed", async () => {
    await host.fs.writeFile("/home/a", "x");
    await remote.fs.open("/home/a", ["read"]);
    expect(JSON.parse(await host.fs.readText("/proc/1/fd.json"))).toHaveLength(1);

    await remote.close();
    await new Promise((resolve) => setTimeout(resolve, 30));

    expect(JSON.parse(await host.fs.readText("/proc/1/fd.json"))).toHaveLength(0);
  });

  test("calls fail when the host closes, and say so", async () => {
    const pending = remote.wait(await remote.spawn("wait"));
    const failure = expect(pending).rejects.toMatchObject({ code: "ECONNRESET" });
    await host.close();

    await failure;
  });
});

describe("bad clients", () => {
  test("a client that speaks something else is told so and hung up on", async () => {
    const { socket, next } = await dial();
    socket.write("GET / HTTP/1.1\r\n\r\n");

    expect(await next()).toMatchObject({ t: "bye", error: { code: "EPROTO" } });
    expect(await next()).toEqual({ t: "closed" });
  });

  test("a call before the greeting, an unknown version and an unknown call have one answer each", async () => {
    const early = await dial();
    early.send({ t: "call", id: 1, name: "ps", args: {} });
    expect(await early.next()).toMatchObject({ t: "bye", error: { code: "EPROTO" } });

    const future = await dial();
    future.send({ ...hello(), versions: [7] });
    expect(await future.next()).toMatchObject({ t: "bye", error: { code: "EVERSION" } });

    const client = await dial();
    client.send(hello());
    expect(await client.next()).toMatchObject({ t: "welcome", version: 1, pid: 1 });
    client.send({ t: "call", id: 1, name: "teleport", args: {} });
    expect(await client.next()).toMatchObject({ t: "error", id: 1, error: { code: "ENOSYS" } });
    client.send({ t: "call", id: 2, name: "stat", args: { path: 7, extra: 1 } });
    expect(await client.next()).toMatchObject({ t: "error", id: 2, error: { code: "EINVAL" } });
    client.socket.destroy();
  });

  test("a mutation repeated with its request id is done once", async () => {
    const client = await dial();
    client.send(hello());
    await client.next();
    client.send(
      { t: "call", id: 1, name: "append", args: { path: "/home/log", create: "maybe" }, rid: "r1" },
      Buffer.from("x"),
    );
    const first = await client.next();
    client.send(
      { t: "call", id: 2, name: "append", args: { path: "/home/log", create: "maybe" }, rid: "r1" },
      Buffer.from("x"),
    );
    const second = await client.next();

    expect(second["value"]).toEqual(first["value"]);
    expect(await host.fs.readText("/home/log")).toBe("x");
    client.socket.destroy();
  });

  test("a stream sends no more than its credit", async () => {
    for (let at = 0; at < 400; at++) await host.fs.writeFile("/home/hot", String(at));
    const client = await dial();
    client.send(hello());
    await client.next();
    client.send({ t: "call", id: 1, name: "watch", args: { glob: "/home/**", after: 0 } });
    let items = 0;
    const drain = async (): Promise<void> => {
      for (;;) {
        const message = await Promise.race([
          client.next(),
          new Promise<Record<string, unknown>>((resolve) => setTimeout(() => resolve({ t: "quiet" }), 100)),
        ]);
        if (message["t"] === "quiet") return;
        if (message["t"] === "item") items++;
      }
    };
    await drain();
    expect(items).toBe(256);
    client.send({ t: "credit", id: 1, n: 50 });
    await drain();

    expect(items).toBeGreaterThanOrEqual(305);
    client.socket.destroy();
  });

  test("a client that does not read its answers does not fill the host's memory", async () => {
    await host.fs.writeFile("/home/large", Buffer.alloc(4 * 1024 * 1024, 1));
    const client = await dial();
    client.send(hello());
    await client.next();
    client.socket.pause();
    const before = process.memoryUsage().rss;
    for (let id = 1; id <= 200; id++) client.send({ t: "call", id, name: "read", args: { path: "/home/large" } });
    await new Promise((resolve) => setTimeout(resolve, 500));

    expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1024 * 1024);
    client.socket.destroy();
  });

  test.each([
    ["fail", "stat", { path: `/home${`/${"b".repeat(250)}`.repeat(14)}` }],
    ["only wait", "wait", { pid: 0 }],
  ])("nor with answers of calls that %s", async (_which, name, args) => {
    const ended = await host.spawn("add", { input: { a: 1, b: 2, more: "x".repeat(4000) } });
    await host.wait(ended);
    const calls = 20_000;
    let handled = 0;
    host.hook({ calls: [name], observe: () => void handled++ });
    const client = await dial();
    client.send(hello());
    await client.next();
    client.socket.pause();
    for (let id = 1; id <= calls; id++)
      client.send({ t: "call", id, name, args: name === "wait" ? { pid: ended } : args });
    let before = -1;
    while (before !== handled) {
      before = handled;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }

    expect(handled).toBeLessThan(calls);
    client.socket.destroy();
  });
});
