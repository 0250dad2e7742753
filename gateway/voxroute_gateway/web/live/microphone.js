// A microphone as samples: 16 bits, 24 kHz, mono, in pieces of 100 ms.

export const RATE = 24_000;

/** Opens it; `heard` gets each piece as an ArrayBuffer. Returns what closes it. Throws where it may not. */
export async function openMicrophone(heard) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
  });
  const context = new AudioContext({ sampleRate: RATE });
  const close = async () => {
    for (const track of stream.getTracks()) track.stop();
    await context.close();
  };
  try {
    await context.audioWorklet.addModule("/ui/live/samples.worklet.js");
    const source = context.createMediaStreamSource(stream);
    const samples = new AudioWorkletNode(context, "samples", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    samples.port.onmessage = ({ data }) => heard(data);
    source.connect(samples);
    await context.resume();
  } catch (error) {
    await close();
    throw error;
  }
  return close;
}
