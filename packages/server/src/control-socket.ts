// The control socket: a Unix socket in the data directory that only its owner can open.

import { createHash } from "node:crypto";
import { chmodSync, lstatSync, mkdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { type Server, type Socket, createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Kernel, KERNEL_VERSION, KernelError } from "@ergos/kernel";
import { Requests, Session, drainOf } from "@ergos/protocol";

/** Longest path of a Unix socket that every system takes. */
const SOCKET_PATH_MAX = 100;

/** Where long directories have theirs: the same for a host and its clients, whatever their environments say. */
const shortFolder = (): string => `/tmp/ergos-${userInfo().uid}`;

/** Where the control socket of a data directory is. Long directories get one in a folder of their owner's elsewhere. */
export function controlSocketPath(dir: string): string {
  const path = join(dir, "control.sock");
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX) return path;
  const name = createHash("sha256").update(realpathSync(dir)).digest("hex").slice(0, 24);
  return join(shortFolder(), `${name}.sock`);
}

/**
 * A folder among everybody's must be its owner's alone: whoever else could make a socket there would be sent the pass.
 * @throws {EACCES} it is somebody else's, or others may write to it
 */
export function assertOwnFolder(socketPath: string): void {
  const folder = join(socketPath, "..");
  if (folder !== shortFolder()) return;
  const { uid } = userInfo();
  const stat = lstatSync(folder, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const isOwn = stat.isDirectory() && stat.uid === uid;
  if (isOwn && (stat.mode & 0o022) === 0) return;
  throw new KernelError(
    "EACCES",
    `${folder} must be a directory that only user ${uid} can write to, for the control socket in it; found ${isOwn ? `mode ${(stat.mode & 0o777).toString(8)}` : `one of user ${stat.uid}`}`,
    { path: folder },
  );
}

/** A client that is between two calls makes the next one within this time. */
const LINGER_MS = 50;
/** Time for answers under way when the host closes. */
const CLOSE_GRACE_MS = 200;
/** How long answers to calls that act are waited for. */
const ANSWERS_MS = 5000;

/** Bytes that may wait for a slow client. */
const WAITING_BYTES_MAX = 4 * 1024 * 1024;

export interface ControlSocket extends AsyncDisposable {
  readonly path: string;
  close(): Promise<void>;
}

/** Serves a kernel's owner over the directory's control socket. The caller owns the directory. */
export async function serveControlSocket(kernel: Kernel, dir: string): Promise<ControlSocket> {
  const path = controlSocketPath(dir);
  const parent = join(path, "..");
  mkdirSync(parent, { recursive: true, mode: 0o700 });
  assertOwnFolder(path);
  // What is left of a dead owner: the directory's lock says that nobody serves it.
  rmSync(path, { force: true });
  const requests = new Requests();
  const open = new Map<Socket, Session>();
  const server = createServer((socket) => {
    const session = new Session(
      (pass) => kernel.login(pass),
      {
        write: (parts) => {
          socket.cork();
          for (const part of parts) socket.write(part);
          socket.uncork();
        },
        drained: drainOf(socket, WAITING_BYTES_MAX),
        pause: () => socket.pause(),
        resume: () => socket.resume(),
        close: () => socket.end(),
      },
      requests,
      KERNEL_VERSION,
    );
    open.set(socket, session);
    socket.on("data", (chunk: Uint8Array) => session.receive(chunk));
    socket.on("error", () => session.close());
    socket.on("close", () => {
      session.close();
      open.delete(socket);
    });
  });
  // Whoever reaches the socket finds the pass that it wants.
  writeOwnerPass(kernel, dir);
  await listen(server, path);
  chmodSync(path, 0o600);
  const close = async (): Promise<void> => {
    // Whoever comes now finds the next host.
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    // Who is in the middle of something (a command of several calls) ends it, and an answer on its way gets
    // out; who waits for something does not hold the host up.
    const ended = [...open].map(([socket, session]) =>
      Promise.race([
        new Promise<void>((closed) => socket.once("close", () => closed())),
        session.idle().then(() => delay(LINGER_MS, undefined, { ref: false })),
      ]),
    );
    await Promise.race([Promise.all(ended), delay(CLOSE_GRACE_MS, undefined, { ref: false })]);
    // What has been done is told to who has asked for it.
    const drained = Promise.all([...open.values()].map((session) => session.drain()));
    await Promise.race([drained, delay(ANSWERS_MS, undefined, { ref: false })]);
    for (const [socket, session] of open) {
      session.close();
      socket.destroySoon();
    }
    await closed;
    rmSync(path, { force: true });
    rmSync(ownerPassPath(dir), { force: true });
  };
  return { path, close, [Symbol.asyncDispose]: close };
}

/** Where a running host keeps the pass of its owner, readable by nobody else. */
export const ownerPassPath = (dir: string): string => join(dir, "owner.pass");

function writeOwnerPass(kernel: Kernel, dir: string): void {
  const pass = kernel.ownerPass();
  if (pass === undefined) return;
  const path = ownerPassPath(dir);
  // Made anew, so that nobody has it open from before.
  rmSync(path, { force: true });
  writeFileSync(path, `${pass}\n`, { mode: 0o600, flag: "wx" });
}

function listen(server: Server, path: string): Promise<void> {
  const before = process.umask(0o077);
  return new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new KernelError("EIO", `the control socket ${path} cannot be opened`, { path, cause })),
    );
    server.listen(path, () => resolve());
  }).finally(() => process.umask(before));
}
