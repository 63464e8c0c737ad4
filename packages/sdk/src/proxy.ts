// In a confined child: a port of its own loopback that leads to the proxy of its host.

import { connect, createServer } from "node:net";

/** Forwards connections of a port to a socket; settles when it listens. */
export function forwardPort(port: number, socket: string): Promise<void> {
  const server = createServer((near) => {
    const far = connect(socket);
    near.pipe(far).pipe(near);
    near.on("error", () => far.destroy());
    far.on("error", () => near.destroy());
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve).unref();
  });
}
