// `@ergos/server`: faces of a host.

export { type ControlSocket, controlSocketPath, ownerPassPath, serveControlSocket } from "./control-socket.ts";
