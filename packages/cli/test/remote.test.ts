// A client of another process's host, when that does not last.

import { type Server, createServer } from "node:net";
import { FrameReader, type HostMessage, WIRE_VERSIONS, encodeFrame, parseClientMessage } from "@ergos/protocol";
import { controlSocketPath } from "@ergos/server";
import { toPid } from "@ergos/kernel";
import { connect } from "ergos";
import { expect, onTestFinished, test } from "vitest";
import { useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();

/** Who greets each that comes, and is gone at its first question. */
async function hostThatDies(dir: string): Promise<{ readonly asked: string[] }> {
  const asked: string[] = [];
  const server: Server = createServer((socket) => {
    const reader = new FrameReader();
    const send = (message: HostMessage): void => encodeFrame(message).forEach((part) => void socket.write(part));
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      for (const { message: frame } of reader.push(chunk)) {
        const message = parseClientMessage(frame);
        if (message.t === "hello")
          send({ t: "welcome", version: WIRE_VERSIONS[0] ?? 1, pid: toPid(1), host: { version: "", pid: 1 } });
        if (message.t !== "call") continue;
        asked.push(message.name);
        socket.destroy();
      }
    });
  });
  await new Promise<void>((done) => server.listen(controlSocketPath(dir), done));
  onTestFinished(() => void server.close());
  return { asked };
}

test("a question that no host outlives is put to three, what may have acted to one, and who waits asks each", async () => {
  const dir = directory.path;
  // Whose directory it is, and who answers for it.
  await using owner = await connect({ dir, serve: false });
  expect(owner.isRemote).toBe(false);
  const { asked } = await hostThatDies(dir);
  await using os = await connect({ dir, profile: "remote", waitMs: 5000 });

  await expect(os.call("stat", { path: "/" })).rejects.toMatchObject({ code: "ECONNRESET" });
  expect(asked).toEqual(["stat", "stat", "stat"]);
  const giveUp = new AbortController();
  const waiting = os.call("wait", { pid: toPid(7), signal: giveUp.signal });
  await expect.poll(() => asked.length).toBeGreaterThan(6);
  giveUp.abort();
  await expect(waiting).rejects.toThrow();
  asked.length = 0;
  await expect(os.fs.mkdir("/srv/x")).rejects.toMatchObject({ code: "ECONNRESET" });
  expect(asked).toEqual(["setattr"]);
});
