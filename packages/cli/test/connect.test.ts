// The library: code that is given to a host is found again by the next one.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { toPid, toSeq } from "@ergos/kernel";
import { type Code, type Runnable, type RunContext, connect, createTool, pipeline, program } from "ergos";
import { expect, test } from "vitest";
import { BIN, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();

test("a pipeline and a function in code go on in the next host that has them, and nothing is done twice", async () => {
  const done: string[] = [];
  let gate: Promise<unknown> = new Promise(() => undefined);
  const work = pipeline<{ at: number }>("work")
    .node("first", ({ at }) => {
      done.push("first");
      return at + 1;
    })
    .node("last", { needs: ["first"] }, async ({ first }) => {
      await gate;
      return first * 2;
    });
  const named = async (): Promise<string> => {
    await gate;
    return "named";
  };
  const dir = directory.path;
  const pids: number[] = [];
  {
    await using os = await connect({ dir, programs: [work, named] });
    pids.push(await os.spawn(work, { input: { at: 3 } }), await os.spawn("named"));
    await expect.poll(() => done).toEqual(["first"]);
  }
  gate = Promise.resolve();
  await using os = await connect({ dir, programs: [work, named] });
  expect(os.resumed).toEqual(pids);
  const results = [];
  for (const pid of os.resumed) results.push((await os.wait(pid)).result);
  expect([results, done]).toEqual([[8, "named"], ["first"]]);
});

test("types go in and come out, along the edges too", async () => {
  const places = pipeline<{ city: string }>("places")
    .node("first", { retry: { attempts: 2 } }, ({ city }) => city.length)
    .node("odd", { needs: ["first"], when: ({ first }) => first % 2 === 1 }, ({ first }) => first)
    .node("last", { needs: ["odd"], allowSkipped: true }, ({ odd }) => (odd === undefined ? "even" : "odd"))
    .output("last");
  await using os = await connect();
  const said: string = await os.run(places, { input: { city: "Rome" } });
  const doubled: number = await os.run(async (input: { n: number }) => Promise.resolve(input.n * 2), {
    input: { n: 4 },
  });
  const without: string = await os.run((input: { x?: string }) => input.x ?? "none");
  const withContext = async (input: { readonly n: number }, ctx: RunContext): Promise<{ readonly runId: string }> =>
    Promise.resolve({ runId: `${ctx.runId} ${input.n}` });
  const { runId } = await os.run(withContext, { input: { n: 1 }, name: "mine" });
  expect(runId).toMatch(/^mine-\d+ 1$/);
  const any: Runnable = places;
  expect([said, doubled, without, await os.run(any, { input: { city: "Rome" } })]).toEqual(["even", 8, "none", "even"]);
  const wrong = async (): Promise<void> => {
    // @ts-expect-error an input is needed
    await os.run(places);
    // @ts-expect-error of another form
    await os.run(places, { input: { town: "Rome" } });
    const half = program("half", async ({ n }: { n: number }) => Promise.resolve(n / 2));
    // @ts-expect-error of a program too
    await os.run(half, { input: { n: "one" } });
    // @ts-expect-error an input is needed
    await os.run(half);
    // @ts-expect-error of what is started too
    await os.spawn(half, { input: { n: "one" } });
    // @ts-expect-error an input is needed
    await os.spawn((input: { n: number }) => input.n, {});
    await os.spawn("named", { input: 1 });
    await os.run((input?: { x: string }) => input?.x);
    await os.spawn((input: { x: string } | undefined) => input?.x);
    const code: Code = half;
    await os.spawn(code);
    await os.run(code);
    for (const one of [half, places] as readonly Code[]) await os.spawn(one, { input: 1 });
    await os.spawn({ module: "./x.ts" });
    await os.spawn(any);
    const one = pipeline("p").node("a", () => 1);
    // @ts-expect-error what was skipped may be missing
    one.node("b", { needs: ["a"], allowSkipped: true }, ({ a }) => a + 1);
  };
  expect(wrong).toBeTypeOf("function");
  const options = { retries: 2 } as unknown as { retry: { attempts: number } };
  expect(() => pipeline("p").node("a", options, () => 1)).toThrow(/a has no option "retries"; there are needs,/);
});

test("a program starts code of any kind as its child, and asks a person as often as it is tried", async () => {
  const parent = async (_input: unknown, ctx: RunContext): Promise<unknown> => {
    const double = pipeline<{ n: number }>("double")
      .node("n", ({ n }) => n * 2)
      .output("n");
    const made = await ctx.spawn("plan", double, { input: { n: 4 } });
    const other = await ctx.spawn("code", (input: { n: number }) => input.n + 1, { input: { n: 4 } });
    return [await ctx.wait("one", made), await ctx.wait("two", other)];
  };
  const asking = pipeline("asking").node("decide", { retry: { attempts: 2, delayMs: 1 } }, async (_input, ctx) => {
    const answer: "yes" | "no" = await ctx.ask("go", "Shall it go on?", { choices: ["yes", "no"] });
    if (ctx.attempt === 1) throw new Error("once more");
    return [answer, ctx.attempt];
  });
  await using os = await connect();
  expect(await os.run(parent)).toEqual([8, 5]);
  const pid = await os.spawn(asking);
  await expect.poll(() => os.call("asks", {})).toHaveLength(1);
  await os.call("answer", { id: 1, verdict: "reply", value: "yes" });
  expect((await os.wait(pid)).result).toEqual(["yes", 2]);
  expect(await os.call("asks", {})).toEqual([]);
});

test("a run ends with its signal, and fails with the reason", async () => {
  await using os = await connect();
  const stop = new AbortController();
  const hangs = async (_input: unknown, ctx: RunContext): Promise<string> => {
    await ctx.sleep(60_000);
    return "over";
  };
  const running = os.run(hangs, { signal: stop.signal, name: "hangs" });
  const failed = expect(running).rejects.toThrow("enough");
  await expect
    .poll(async () => (await os.ps()).some(({ name, state }) => name === "hangs" && state === "waiting"))
    .toBe(true);
  stop.abort(new Error("enough"));
  await failed;
  expect((await os.ps({ all: true })).find(({ name }) => name === "hangs")).toMatchObject({ status: "cancelled" });
  await expect(os.run(hangs, { signal: stop.signal })).rejects.toThrow("enough");
  const pid = await os.spawn(hangs);
  await expect(os.wait(pid, { signal: AbortSignal.timeout(20) })).rejects.toMatchObject({ name: "TimeoutError" });
  expect((await os.ps({ pids: [pid] }))[0]?.state).toBe("waiting");
});

test("what makes a host what it is cannot be given to one of another process", async () => {
  const dir = directory.path;
  await using first = await connect({ dir });
  expect(first.isRemote).toBe(false);
  const second = connect({ dir, mounts: [{ at: "/mnt", path: dir }], programs: [] });
  await expect(second).rejects.toMatchObject({ code: "EBUSY", message: expect.stringContaining("mounts") as string });
  await using third = await connect({ dir, programs: [] });
  expect(third.isRemote).toBe(true);
  expect(() => third.hook({ calls: ["write"], pre: () => undefined })).toThrow(/ENOTSUP.* talks to another/);
  await expect(third.login("pass")).rejects.toMatchObject({ code: "ENOTSUP" });
});

test("code with a name is that of the host, and a host that is to come waits for the end of the one before", async () => {
  const dir = directory.path;
  const job = program("job", () => "of the host");
  const first = await connect({ dir, programs: [job] });
  const remote = await connect({ dir });
  expect(await remote.run(program("job", () => "of the client"))).toBe("of the host");
  await expect(remote.run(program("unknown", () => 1))).rejects.toMatchObject({ code: "ENOEXEC" });
  await expect(remote.run(function virtual() {})).rejects.toMatchObject({ code: "ENOTSUP" });
  await expect(remote.run(() => 1)).rejects.toMatchObject({ code: "ENOTSUP" });
  await remote.close();

  const early = connect({ dir, programs: [job], waitMs: 50 });
  await expect(early).rejects.toMatchObject({ code: "EBUSY", message: expect.stringContaining("waitMs") as string });
  await expect(connect({ dir, waitMs: -1 })).rejects.toMatchObject({ code: "EINVAL" });
  const second = connect({ dir, programs: [job], waitMs: 10_000 });
  await new Promise((go) => setTimeout(go, 100));
  await first.close();
  await using os = await second;
  expect([os.isRemote, await os.run("job")]).toEqual([false, "of the host"]);
});

test("a host with programs takes over from one that closes", async () => {
  const dir = directory.path;
  const named = (): string => "named";
  const first = await connect({ dir, programs: [named] });
  const [, second] = await Promise.all([first.close(), connect({ dir, programs: [named] })]);
  expect(second.isRemote).toBe(false);
  await second.close();
});

test("what is there without having been made takes what is moved or copied into it", async () => {
  await using os = await connect();
  await os.fs.writeFile("/data/a/f", "text");
  await os.fs.clone("/data/a", "/tmp/copy");
  await os.fs.rename("/data/a", "/srv/moved");
  expect([await os.fs.readText("/tmp/copy/f"), await os.fs.readText("/srv/moved/f")]).toEqual(["text", "text"]);
  await expect(os.fs.rename("/srv/moved", "/none/moved")).rejects.toMatchObject({ code: "ENOENT" });
});

test("what is no program is told before anything is opened", async () => {
  const wrong = { programs: ["./module.ts"] } as unknown as Parameters<typeof connect>[0];
  const dir = join(directory.path, "data");
  await expect(connect({ ...wrong, dir })).rejects.toMatchObject({
    code: "ENOEXEC",
    message: expect.stringContaining("programs[0]") as string,
  });
  const twice = connect({ dir, programs: [pipeline("a").node("n", () => 1), program("a", () => 2)] });
  await expect(twice).rejects.toThrow(/programs\[1\] has the same name as one before it, a/);
  await expect(connect({ dir, programs: [() => 1] })).rejects.toThrow(/programs\[0\] is a function without a name/);
  expect(existsSync(dir)).toBe(false);
});

test("events of another's host end with the connection, and that is no failure", async () => {
  const dir = directory.path;
  await using host = await connect({ dir });
  const remote = await connect({ dir });
  expect([host.isRemote, remote.isRemote]).toEqual([false, true]);
  const heard: string[] = [];
  const listening = (async () => {
    for await (const { name } of remote.events({ names: ["topic.published"] })) heard.push(name);
  })();
  while (heard.length === 0) {
    await host.call("publish", { topic: "news", body: 1 });
    await new Promise((go) => setTimeout(go, 5));
  }
  await remote.close();
  await listening;
});

test("what an embedding program waits for keeps it from ending, where only a clock brings it about", () => {
  const script = `
    import { connect } from "ergos";
    await using os = await connect();
    console.log(await os.run(async (_input, ctx) => {
      await ctx.hibernate("night", { until: (await ctx.now()) + 50 });
      return "morning";
    }));`;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["--conditions=@ergos/source", "--input-type=module", "-e", script],
    { cwd: import.meta.dirname, encoding: "utf8", timeout: 20_000 },
  );

  expect([status, stdout, stderr]).toEqual([0, "morning\n", ""]);
});

test("a host that ends lets calls come to their end, and the next one has what they gave", async () => {
  const { path: dir } = directory;
  const calls: string[] = [];
  const charge = createTool({
    name: "charge",
    description: "charges",
    inputSchema: {},
    effect: "once",
    call: async (_args, { signal }) => {
      calls.push("begun");
      await delay(100, undefined, { signal });
      calls.push("charged");
      return "charged";
    },
  });
  const paying = program("paying", (_input: unknown, ctx: RunContext) => ctx.call("pay", "charge"));
  {
    await using os = await connect({ dir, tools: [charge], programs: [paying] });
    await os.spawn(paying);
    await expect.poll(() => calls).toEqual(["begun"]);
  }
  expect(calls).toEqual(["begun", "charged"]);
  await using os = await connect({ dir, tools: [charge], programs: [paying] });
  const [pid] = os.resumed;
  expect((await os.wait(toPid(Number(pid)))).result).toBe("charged");
  expect(calls).toEqual(["begun", "charged"]);
  const told = [];
  for await (const { name } of os.events({ names: ["process.completed"], after: os.openedAt ?? toSeq(0) })) {
    told.push(name);
    break;
  }
  expect(told).toEqual(["process.completed"]);
});

test("who waits for a process of a host that ends is told how to go on with it", async () => {
  const { path: dir } = directory;
  const waiting = program("waiting", (_input: unknown, ctx: RunContext) => ctx.receive("go"));
  const host = await connect({ dir, programs: [waiting] });
  const pid = await host.spawn(waiting);
  const child = spawn(process.execPath, [BIN, "wait", String(pid), "--json"], {
    cwd: join(dir, ".."),
    env: { ...process.env, ERGOS_DIR: dir },
  });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(child, "exit");
  const arrived = Promise.withResolvers<void>();
  host.hook({ calls: ["wait"], pre: () => arrived.resolve() });
  await arrived.promise;
  await host.close();
  const [code] = (await ended) as [number];

  expect(code).toBe(1);
  expect(said).toContain(`ergos resume ${pid}`);
});

test("a call that is refused at once rejects, in a host of its own as at another's", async () => {
  const { path: dir } = directory;
  await using own = await connect({ dir });
  await using remote = await connect({ dir });
  for (const os of [own, remote]) {
    const codes = await Promise.all(
      [os.call("stat", {} as never), os.call("nothing" as never, {}), os.call("now", { place: 7 } as never)].map(
        async (answer) =>
          Promise.resolve(answer).then(
            () => "ok",
            ({ code }: { readonly code: string }) => code,
          ),
      ),
    );
    expect([os.isRemote, codes]).toEqual([os.isRemote, ["EINVAL", "ENOSYS", "EINVAL"]]);
  }
});

test("a host that resumes nothing lives all the same: sleepers are woken, schedules act; one that is idle does nothing", async () => {
  const naps = program("naps", async (_input: unknown, ctx: RunContext) => {
    await ctx.hibernate("nap");
    return (await ctx.receive("letter"))?.body;
  });
  const outcome = async (options: object): Promise<unknown> => {
    await using os = await connect(options);
    const pid = await os.spawn(naps);
    await expect.poll(async () => (await os.ps({ pids: [pid] }))[0]?.state).toBe("sleeping");
    await os.call("schedule", { inMs: 1, action: { message: { to: pid, body: "wake up" } } });
    const told = os.wait(pid).then(
      ({ result }) => result,
      () => "the host has closed",
    );
    return await Promise.race([told, delay(400, "asleep")]);
  };
  expect(await outcome({ resume: false })).toBe("wake up");
  expect(await outcome({ idle: true })).toBe("asleep");
});

test("what the watchdog has left is kept by whoever finds the directory taken", async () => {
  const dir = directory.path;
  const report = join(dir, "watchdog.json");
  {
    await using owner = await connect({ dir });
    writeFileSync(report, JSON.stringify({ pid: 7, blockedMs: 12_000, at: Date.now() }));
    await using guest = await connect({ dir, watchdogMs: 10_000 });
    expect([owner.isRemote, guest.isRemote, existsSync(report)]).toEqual([false, true, true]);
  }
  await using next = await connect({ dir, watchdogMs: 10_000 });
  expect([next.isRemote, existsSync(report)]).toEqual([false, false]);
});

test("whoever talks to a host goes on with the one that follows it", async () => {
  const dir = directory.path;
  const waits = program("waits", async (_input: unknown, ctx: RunContext) => (await ctx.receive("letter"))?.body);
  const first = await connect({ dir, programs: [waits], drainMs: 0 });
  await using patient = await connect({ dir, waitMs: 20_000 });
  const hasty = await connect({ dir });
  expect([patient.isRemote, hasty.isRemote]).toEqual([true, true]);
  const pid = await patient.spawn("waits");
  const ended = patient.wait(pid);
  const lost = hasty.wait(pid).catch((error: unknown) => error);
  const events = hasty.events({ names: ["process.completed"] });
  const told = events.next().then(
    ({ done }) => done,
    (error: unknown) => error,
  );
  await patient.fs.writeFile("/srv/f", "kept");
  await expect.poll(async () => (await patient.ps({ pids: [pid] }))[0]?.state).toBe("waiting");
  await first.close();
  expect(await lost).toMatchObject({
    code: "ECONNRESET",
    message: expect.stringMatching(/no other answers/) as unknown,
  });
  expect(await told).toMatchObject({ code: "ECONNRESET" });
  await expect(hasty.fs.readText("/srv/f")).rejects.toMatchObject({ code: "ECONNRESET" });
  const reading = patient.fs.readText("/srv/f");
  const writing = patient.fs.writeFile("/srv/g", "by the next");
  await delay(200);

  await using second = await connect({ dir, programs: [waits] });
  expect(second.resumed).toEqual([pid]);
  expect(await reading).toBe("kept");
  await writing;
  expect(await hasty.fs.readText("/srv/g")).toBe("by the next");
  const next = hasty.events({ names: ["process.completed"] });
  const completed = next.next();
  await hasty.call("send", { to: pid, body: "hello" });
  expect(await ended).toMatchObject({ code: 0, result: "hello" });
  expect(await completed).toMatchObject({ value: { name: "process.completed", pid } });
  await hasty.close();
  await expect(hasty.fs.readText("/srv/g")).rejects.toMatchObject({
    code: "ECONNRESET",
    message: expect.stringMatching(/the connection was closed/) as unknown,
  });
});
