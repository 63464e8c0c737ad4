import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createPassAuthority, openKeys } from "@ergos/drivers/keys";
import type { Kernel, Os, SyscallArgs } from "@ergos/kernel";
import {
  type ClientMessage,
  FrameReader,
  type HostMessage,
  Requests,
  Session,
  encodeFrame,
  parseHostMessage,
} from "@ergos/protocol";
import { connect } from "ergos";
import { describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

const keys = openKeys();
const boot = (): Promise<Kernel> => bootKernel({ signer: keys, passes: (issuer) => createPassAuthority(keys, issuer) });
const issue = async (
  os: Pick<Os, "call">,
  args: SyscallArgs<"issuePass">,
): Promise<{ readonly pass: string; readonly id: string }> => os.call("issuePass", args);
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Client {
  readonly session: Session;
  /** What it has received so far. */
  readonly got: readonly HostMessage[];
  readonly send: (message: ClientMessage) => void;
  /** The newest message, once it is of this kind. */
  readonly until: (kind: HostMessage["t"]) => Promise<HostMessage>;
  readonly isClosed: () => boolean;
}

/** A client of a session, without a socket between them. */
function dial(kernel: Kernel, requests = new Requests()): Client {
  const reader = new FrameReader();
  const got: HostMessage[] = [];
  let isClosed = false;
  const peer = {
    write: (parts: readonly Uint8Array[]) => {
      for (const part of parts) for (const { message } of reader.push(part)) got.push(parseHostMessage(message));
    },
    drained: () => Promise.resolve(),
    pause: () => undefined,
    resume: () => undefined,
    close: () => {
      isClosed = true;
    },
  };
  const session = new Session((pass) => kernel.login(pass), peer, requests, "0");
  return {
    session,
    got,
    send: (message) => session.receive(Buffer.concat(encodeFrame(message))),
    until: async (kind) => {
      for (let tries = 0; tries < 2000; tries++) {
        const last = got.at(-1);
        if (last?.t === kind) return last;
        await sleep(1);
      }
      throw new Error(`no ${kind} within two seconds, but ${JSON.stringify(got)}`);
    },
    isClosed: () => isClosed,
  };
}

/** A client that is let in with a pass. */
async function enter(kernel: Kernel, pass: string | undefined, requests?: Requests): Promise<Client> {
  const client = dial(kernel, requests);
  client.send({ t: "hello", versions: [1], client: "test", ...(pass === undefined ? {} : { pass }) });
  await client.until("welcome");
  return client;
}

describe("a session of a pass that is revoked", () => {
  test("with an open handle closes and throws nothing", async () => {
    const kernel = await boot();
    await kernel.os.fs.writeFile("/srv/a", "x");
    const { pass, id } = await issue(kernel.os, { grants: ["fs.*:/srv/**"] });
    const client = await enter(kernel, pass);
    client.send({ t: "call", id: 1, name: "open", args: { path: "/srv/a", rights: ["read"] } });
    await client.until("result");

    await kernel.os.call("revokePass", { id });

    expect(() => client.session.close()).not.toThrow();
    expect(client.isClosed()).toBe(true);
    await kernel.close();
  });

  test("streams no more items", async () => {
    const kernel = await boot();
    const { pass, id } = await issue(kernel.os, { grants: ["event.subscribe"] });
    const client = await enter(kernel, pass);
    client.send({ t: "call", id: 1, name: "subscribe", args: {} });
    await client.until("stream");

    await kernel.os.call("revokePass", { id });
    await client.until("bye");
    const before = client.got.length;
    await kernel.os.fs.writeFile("/private", "x");
    await sleep(20);

    expect(client.got.slice(before)).toEqual([]);
    expect(client.isClosed()).toBe(true);
    await kernel.close();
  });

  test("hears of that, and not of an end that it was refused", async () => {
    const kernel = await boot();
    const pid = await kernel.os.spawn("virtual", { name: "outside" });
    const { pass, id } = await issue(kernel.os, { as: pid });
    const client = await enter(kernel, pass);
    client.send({ t: "call", id: 1, name: "exit", args: { code: "none" } });
    await client.until("error");

    await kernel.os.call("revokePass", { id });

    expect(await client.until("bye")).toMatchObject({ error: { code: "EACCES" } });
    await kernel.close();
  });

  test("does not end the host with an open handle, over the socket too", async () => {
    const dir = mkdtempSync(join(tmpdir(), "ergos-session-"));
    const crashes: unknown[] = [];
    const onCrash = (error: unknown): void => void crashes.push(error);
    process.on("uncaughtExceptionMonitor", onCrash);
    try {
      const host = await connect({ dir });
      await host.fs.writeFile("/srv/a", "x");
      const { pass, id } = await issue(host, { grants: ["fs.*:/srv/**"] });
      const jane = await connect({ dir, pass });
      await jane.fs.open("/srv/a", ["read"]);

      await host.call("revokePass", { id });
      await jane.close().catch(() => undefined);
      await sleep(100);

      expect(crashes).toEqual([]);
      expect(await host.fs.readText("/srv/a")).toBe("x");
      await host.close();
    } finally {
      process.off("uncaughtExceptionMonitor", onCrash);
      rmSync(dir, { recursive: true, force: true });
    }
  });
});

describe("a request id", () => {
  test("is answered again as long as its answer is kept: the oldest of too many bytes go", async () => {
    const requests = new Requests();
    const done: string[] = [];
    const once = async (rid: string): Promise<unknown> => requests.once(rid, async () => done.push(rid));
    for (const rid of ["a", "b", "c"]) {
      await once(rid);
      requests.weigh(rid, 30 * 1024 * 1024);
    }

    for (const rid of ["c", "b", "a"]) await once(rid);

    expect(done).toEqual(["a", "b", "c", "a"]);
  });

  test("of one client answers no other client with its outcome", async () => {
    const kernel = await boot();
    const requests = new Requests();
    const { pass } = await issue(kernel.os, { grants: ["fs.read:/srv/**"] });
    const owner = await enter(kernel, kernel.ownerPass(), requests);
    const poor = await enter(kernel, pass, requests);
    const call = { t: "call", id: 1, name: "issuePass", args: { grants: ["*"] }, rid: "r1" } as const;

    owner.send(call);
    poor.send(call);

    expect(await owner.until("result")).toMatchObject({ id: 1 });
    expect(await poor.until("error")).toMatchObject({ id: 1, error: { code: "EACCES" } });
    owner.session.close();
    poor.session.close();
    await kernel.close();
  });
});
