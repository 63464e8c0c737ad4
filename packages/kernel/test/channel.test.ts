import { type Kernel, LIMITS, type Os, type ProcessContext } from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram, processWith } from "./kernel-fixture.ts";

const text = (bytes: Uint8Array | null): string | null => (bytes === null ? null : new TextDecoder().decode(bytes));

async function child(os: Os): Promise<ProcessContext> {
  const { program, context } = openProgram();
  await os.spawn(program);
  return context;
}

describe("channels", () => {
  test("what one side writes the other reads, in order, in both directions", async () => {
    const kernel = await bootKernel();
    const { os, pid } = await child(kernel.os);
    const [above, below] = [kernel.os.channel(pid), os.channel()];

    await above.write("one");
    await above.write("two");
    await below.write("up");

    expect([text(await below.read()), text(await below.read()), text(await above.read())]).toEqual([
      "one",
      "two",
      "up",
    ]);
    await expect(above.read({ waitMs: 0 })).rejects.toMatchObject({ code: "EAGAIN" });
    await kernel.close();
  });

  test("a reader waits, a writer waits for room, and a closed side is drained", async () => {
    const kernel = await bootKernel();
    const { os, pid } = await child(kernel.os);
    const [above, below] = [kernel.os.channel(pid), os.channel()];
    const read = below.read();
    await above.write("late");
    expect(text(await read)).toBe("late");

    const piece = new Uint8Array(Math.ceil(LIMITS.pipeBytes * 0.6));
    await above.write(piece);
    const second = above.write(piece);
    await expect(above.write(piece, { waitMs: 0 })).rejects.toMatchObject({ code: "EAGAIN" });
    expect((await below.read())?.length).toBe(piece.length);
    await second;
    await above.close();
    await expect(above.write("more")).rejects.toMatchObject({ code: "EPIPE" });
    const rest: number[] = [];
    for await (const { length } of below) rest.push(length);
    expect(rest).toEqual([piece.length]);
    await kernel.close();
  });

  test("what a child wrote before its end is still read; then no more comes", async () => {
    const kernel = await bootKernel();
    const { os, pid } = await child(kernel.os);
    await os.channel().write("last words");
    const waiting = kernel.os.channel(pid);
    await kernel.os.kill(pid, "KILL");
    await kernel.os.wait(pid);

    expect(text(await waiting.read())).toBe("last words");
    expect(await waiting.read()).toBeNull();
    await expect(waiting.write("too late")).rejects.toMatchObject({ code: "EPIPE" });
    await kernel.close();
  });

  test("only a parent has a channel to a child, and both need the rights to send and to receive", async () => {
    const kernel = await bootKernel();
    const one = await child(kernel.os);
    const other = await child(kernel.os);
    await expect(one.os.channel(other.pid).write("x")).rejects.toMatchObject({ code: "EPERM" });
    await expect(kernel.os.channel(9999 as never).write("x")).rejects.toMatchObject({ code: "ESRCH" });
    await expect(kernel.os.channel().write("x")).rejects.toMatchObject({ code: "EINVAL" });
    const mute = await processWith(kernel, ["proc.step"]);
    await expect(mute.channel().write("x")).rejects.toMatchObject({ code: "EACCES" });
    await expect(mute.channel().read()).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });
});

describe("content by its id", () => {
  test("it is read whole, in ranges and in pieces", async () => {
    const kernel = await bootKernel();
    const { content } = kernel.os;
    const id = await content.write("0123456789");

    expect(text(await content.read(id))).toBe("0123456789");
    expect(text(await content.read(id, { offset: 3, length: 4 }))).toBe("3456");
    expect(text(await content.read(id, { offset: 8, length: 99 }))).toBe("89");
    expect((await content.read(id, { offset: 99 })).length).toBe(0);
    expect(await content.stat(id)).toEqual({ id, size: 10 });
    const pieces: (string | null)[] = [];
    for await (const piece of content.stream(id, { offset: 1, pieceBytes: 4 })) pieces.push(text(piece));
    expect(pieces).toEqual(["1234", "5678", "9"]);
    await kernel.close();
  });

  test("an id alone gives nothing: the right is asked for, and what is not there is told", async () => {
    const kernel: Kernel = await bootKernel();
    const id = await kernel.os.content.write("secret");
    const stranger = await processWith(kernel, ["fs.*"]);
    await expect(stranger.content.read(id)).rejects.toMatchObject({ code: "EACCES" });
    await expect(stranger.content.stat(id)).rejects.toMatchObject({ code: "EACCES" });
    await expect(stranger.content.write("x")).rejects.toMatchObject({ code: "EACCES" });
    const absent = `sha256-${"0".repeat(64)}` as typeof id;
    await expect(kernel.os.content.read(absent)).rejects.toMatchObject({ code: "ENOENT" });
    await expect(kernel.os.content.read("../etc" as typeof id)).rejects.toMatchObject({ code: "EINVAL" });
    await kernel.close();
  });
});
