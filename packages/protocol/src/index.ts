// `@ergos/protocol`: the wire between ErgOS processes.

export { type Transport, WireClient } from "./client.ts";
export { drainOf } from "./drain.ts";
export { FRAME_BYTES_MAX, type Frame, FrameReader, encodeFrame, protocolError } from "./frame.ts";
export { Guest, type GuestOptions, type Vessel, failed, lastWords, ownBytes } from "./guest.ts";
export { type Authenticate, type Peer, Requests, Session, type SharedMemory } from "./session.ts";
export {
  CALLS_MAX,
  type ClientMessage,
  type HostMessage,
  INITIAL_CREDIT,
  WIRE_VERSIONS,
  parseClientMessage,
  parseHostMessage,
} from "./message.ts";
