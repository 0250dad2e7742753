"""Texts that Whisper models are known to write where nobody speaks; lower case, no punctuation.

Closing words of videos and credits of subtitles, which the models were trained on. Those that
Barański et al., "Investigation of Whisper ASR Hallucinations Induced by Non-Speech Audio"
(arXiv:2501.11378), and users of Whisper report again and again (openai/whisper discussion 679,
McCloudS/subgen issue 21, Vexa-ai/vexa issues 155 and 617, amicalhq/amical issue 71,
PocketShell-io/pocketshell issue 452), and their counterparts in Indian languages.
"""

# ruff: noqa: RUF001 - letters of other alphabets than the Latin one

INVENTED: dict[str, tuple[str, ...]] = {
    "en": (
        "thank you", "thank you very much", "thank you so much", "thanks", "you", "bye", "bye bye",
        "thanks for watching", "thank you for watching", "thank you so much for watching",
        "thank you for listening", "thank you all for watching",
        "thanks for watching and i will see you next time",
        "thanks for watching and i ll see you next time", "thank you for your attention",
        "i ll see you next time", "i ll see you in the next video", "see you in the next video",
        "see you next time", "please subscribe", "please subscribe to my channel",
        "please subscribe to the channel", "subscribe to my channel",
        "don t forget to like and subscribe", "like and subscribe",
        "please like and subscribe", "music", "applause", "silence",
    ),
    "hi": (
        "धन्यवाद", "बहुत धन्यवाद", "बहुत बहुत धन्यवाद", "शुक्रिया", "देखने के लिए धन्यवाद",
        "वीडियो देखने के लिए धन्यवाद", "देखने के लिए आपका धन्यवाद", "सुनने के लिए धन्यवाद",
        "मेरे चैनल को सब्सक्राइब करें", "चैनल को सब्सक्राइब करें", "सब्सक्राइब करें",
        "चैनल को सब्सक्राइब करना ना भूलें", "लाइक और सब्सक्राइब करें",
        "वीडियो को लाइक और चैनल को सब्सक्राइब करें", "संगीत",
    ),
    "ur": ("شکریہ", "دیکھنے کے لیے شکریہ", "بہت شکریہ"),
    "ta": ("நன்றி", "பார்த்ததற்கு நன்றி", "நன்றி வணக்கம்"),
    "te": ("ధన్యవాదాలు", "చూసినందుకు ధన్యవాదాలు"),
    "bn": ("ধন্যবাদ", "দেখার জন্য ধন্যবাদ"),
    "es": (
        "gracias", "gracias por ver", "gracias por ver el video", "muchas gracias",
        "muchas gracias por ver el video", "suscribete al canal", "suscríbete al canal",
        "suscríbete", "no olvides suscribirte", "hasta la próxima",
    ),
    "pt": (
        "obrigado", "obrigada", "obrigado por assistir", "obrigada por assistir",
        "inscreva se no canal", "até a próxima", "até o próximo vídeo",
    ),
    "fr": (
        "merci", "merci d avoir regardé", "merci d avoir regardé cette vidéo",
        "merci d avoir regardé cette vidéo et à bientôt", "abonnez vous", "à bientôt",
        "merci à tous",
    ),
    "de": (
        "vielen dank", "danke", "vielen dank fürs zuschauen", "danke fürs zuschauen",
        "bis zum nächsten mal", "tschüss", "das war s für heute",
    ),
    "it": ("grazie", "grazie per la visione", "grazie per aver guardato il video", "iscrivetevi"),
    "ru": (
        "спасибо", "спасибо за просмотр", "продолжение следует", "подписывайтесь на канал",
        "подпишись на канал", "спасибо за внимание", "до новых встреч",
    ),
    "tr": (
        "teşekkürler", "izlediğiniz için teşekkürler", "izlediğiniz için teşekkür ederim",
        "abone olmayı unutmayın",
    ),
    "ar": ("شكرا", "شكرا لك", "شكرا للمشاهدة", "اشتركوا في القناة", "لا تنسوا الاشتراك في القناة"),
    "ja": (
        "ありがとうございました", "ご視聴ありがとうございました", "次の動画でお会いしましょう",
        "おやすみなさい", "チャンネル登録お願いします", "最後までご視聴ありがとうございました",
    ),
    "ko": ("감사합니다", "시청해주셔서 감사합니다", "시청해 주셔서 감사합니다", "고맙습니다"),
    "zh": (
        "谢谢", "谢谢大家", "谢谢观看", "謝謝", "謝謝觀看", "谢谢收看", "感谢观看", "感謝觀看",
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
    ),
}  # fmt: skip
"""By language; each is a whole segment or a whole sentence of one."""

CREDITS = (
    "subtitles by", "subtitled by", "captions by", "captioned by", "transcribed by",
    "transcription by", "translated by", "subtitles created by", "amara org",
    "subtítulos realizados por", "subtítulos por", "subtítulos creados por",
    "legendas pela", "legendas por", "legenda adriana zanotto",
    "sous titres réalisés", "sous titrage", "sous titres par",
    "untertitel der amara", "untertitel im auftrag", "untertitelung",
    "sottotitoli creati", "sottotitoli a cura", "sottotitoli e revisione",
    "субтитры", "редактор субтитров", "altyazı", "ترجمة نانسي", "字幕", "उपशीर्षक",
)  # fmt: skip
"""Openings of credits: a short segment that begins so is one."""
