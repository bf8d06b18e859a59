// The walk-through over gRPC: node walkthrough.js ADDRESS PROTO_DIR...
// Stubs are made from protos/saxgw/v1/sax_service.proto; PROTO_DIR are the folders of our protos and of google/api.
// Prints one JSON object with every answer, and the error of a call that must fail.
"use strict";

const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [address, ...includeDirs] = process.argv.slice(2);

const definition = protoLoader.loadSync("saxgw/v1/sax_service.proto", {
  includeDirs,
  keepCase: true,
  defaults: true,
});
const { SaxService } = grpc.loadPackageDefinition(definition).saxgw.v1;

async function main() {
  const client = new SaxService(address, grpc.credentials.createInsecure());
  const call = (name, request) => promisify(client[name].bind(client))(request);
  const model = "/sax/test/from-node";
  const published = {
    model,
    model_path: "saxml.server.pax.lm.params.lm_cloud.LmCloudSpmd2BTest",
    checkpoint: "None",
    replicas: 1,
  };
  const answers = {};
  answers.publish = await call("Publish", published);
  answers.listall = await call("ListAll", { sax_cell: "/sax/test" });
  answers.generate = await call("Generate", {
    model,
    query: "Q: Who is Harry Potter's mom? A: ",
    extra_inputs: { fields: { temperature: { numberValue: 0.1 }, per_example_max_decode_steps: { numberValue: 32 } } },
  });
  answers.listcell = await call("ListCell", { model });
  answers.update = await call("Update", { ...published, replicas: 2 });
  answers.unpublish = await call("Unpublish", { model });
  try {
    await call("ListCell", { model });
  } catch (error) {
    answers.error = { code: error.code, details: error.details };
  }
  client.close();
  console.log(JSON.stringify(answers));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
