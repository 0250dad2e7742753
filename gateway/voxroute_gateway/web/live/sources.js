// What is heard, as samples: 16 bits, 24 kHz, mono, in pieces of 100 ms. The microphone, or a tab or screen.

export const RATE = 24_000;

/** Why there is no sound, as a sentence for a person. */
export class NoSound extends Error {}

const SECURE = "A browser lets a page hear anything only by https, or on this computer itself.";

/** The microphone's sound. Throws NoSound. */
export async function microphone(devices = navigator.mediaDevices) {
  if (!devices) throw new NoSound(SECURE);
  try {
    return await devices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
    });
  } catch (error) {
    throw new NoSound(error.name === "NotAllowedError" ? "The browser does not let this page hear the microphone."
      : error.name === "NotFoundError" ? "There is no microphone." : error.message);
  }
}

/** The sound of a tab or screen that the person chooses. Throws NoSound. */
export async function screen(devices = navigator.mediaDevices) {
  if (!devices) throw new NoSound(SECURE);
  if (!devices.getDisplayMedia) throw new NoSound("This browser gives a page no sound of a tab or screen.");
  let stream;
  try {
    stream = await devices.getDisplayMedia({
      video: { frameRate: 1 }, // no browser gives the sound alone
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      systemAudio: "include",
    });
  } catch (error) {
    throw new NoSound(error.name === "NotAllowedError"
      ? "No tab or screen was chosen, or the browser does not let this page hear one." : error.message);
  }
  if (stream.getAudioTracks().length) return stream;
  for (const track of stream.getTracks()) track.stop();
  throw new NoSound("The browser gave a picture without sound. Chrome and Edge give the sound of a tab, and some systems "
    + "that of a screen, where sharing the audio is ticked as it is chosen; Firefox and Safari give none.");
}

/** `heard` gets each piece as an ArrayBuffer, `ended` is called where the sound ends by itself. Returns what
 * closes it. */
export async function listen(stream, heard, ended) {
  const context = new AudioContext({ sampleRate: RATE });
  const close = async () => {
    for (const track of stream.getTracks()) track.stop();
    if (context.state !== "closed") await context.close();
  };
  try {
    await context.audioWorklet.addModule("/ui/live/samples.worklet.js");
    const source = context.createMediaStreamSource(new MediaStream(stream.getAudioTracks()));
    const samples = new AudioWorkletNode(context, "samples", {
      numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit", channelInterpretation: "speakers",
    });
    samples.port.onmessage = ({ data }) => heard(data);
    source.connect(samples);
    await context.resume();
    for (const track of stream.getTracks()) track.addEventListener("ended", ended);
  } catch (error) {
    await close();
    throw error;
  }
  return close;
}
