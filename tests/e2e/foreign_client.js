// Transcribes a file with @grpc/grpc-js: node foreign_client.js PROTOS ADDRESS CA TOKEN MEDIA
// Prints {"texts": [...]} or {"code": N, "details": "..."}.
const fs = require("fs");
const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [protos, address, ca, token, media] = process.argv.slice(2);
const definition = loader.loadSync(path.join(protos, "voxroute/asr/v1/asr.proto"), {
  includeDirs: [protos],
  keepCase: true,
  oneofs: true,
});
const { AsrService } = grpc.loadPackageDefinition(definition).voxroute.asr.v1;
const client = new AsrService(address, grpc.credentials.createSsl(fs.readFileSync(ca)));
const metadata = new grpc.Metadata();
if (token) metadata.set("authorization", `Bearer ${token}`);
const call = client.Transcribe(metadata, { deadline: Date.now() + 300000 });
const texts = [];
call.on("data", (answer) => {
  if (answer.segment) texts.push(answer.segment.text);
});
call.on("error", (error) =>
  console.log(JSON.stringify({ code: error.code, details: error.details })),
);
call.on("end", () => {
  if (texts.length) console.log(JSON.stringify({ texts }));
});
call.on("status", () => client.close());
call.write({ config: { language: "hi", audio: { container: {} } } });
const data = fs.readFileSync(media);
for (let at = 0; at < data.length; at += 65536) {
  call.write({ audio: data.subarray(at, at + 65536) });
}
call.write({ finish: {} });
call.end();
