// A stream over gRPC: node stream.js ADDRESS MODEL PROTO_DIR...
// Prints each message as a line of JSON when it comes, and at last "end".
"use strict";

const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [address, model, ...includeDirs] = process.argv.slice(2);

const definition = protoLoader.loadSync("saxgw/v1/sax_service.proto", { includeDirs, keepCase: true, defaults: true });
const { SaxService } = grpc.loadPackageDefinition(definition).saxgw.v1;

const client = new SaxService(address, grpc.credentials.createInsecure());
const stream = client.GenerateStream({ model, query: "x" });
stream.on("data", (message) => console.log(JSON.stringify(message)));
stream.on("end", () => {
  console.log(JSON.stringify("end"));
  client.close();
});
stream.on("error", (error) => {
  console.error(error);
  process.exitCode = 1;
});
