// A child that says something else than the wire.
import { Socket } from "node:net";

new Socket({ fd: 3 }).write("GET / HTTP/1.1\r\n\r\n");
setInterval(() => undefined, 1000);
