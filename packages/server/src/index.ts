// `@ergos/server`: faces of a host.

export {
  type ControlSocket,
  assertOwnFolder,
  controlSocketPath,
  ownerPassPath,
  serveControlSocket,
} from "./control-socket.ts";
