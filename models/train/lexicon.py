"""Parallel Hindi-English words of the grammar, as tables.

One orthography per language: NFC Devanagari with nukta and chandrabindu (हूँ, पाँच, दरवाज़ा), American
English spelling without contractions and without hyphens ("twenty five").
A table row is `hindi|gender|english|classes`; gender is `m` or `f`.
"""

from __future__ import annotations

# classes of things: t portable thing, r can be read, o can be opened, v vehicle, c clothes, e can be eaten,
# g grows or is cooked, b breakable, w can be washed, k written
NOUNS = """
किताब|f|book|trk
अख़बार|m|newspaper|tr
चिट्ठी|f|letter|trk
कहानी|f|story|rk
कविता|f|poem|rk
चाबी|f|key|t
घड़ी|f|clock|tb
थैला|m|bag|to
बक्सा|m|box|to
कुर्सी|f|chair|tb
मेज़|f|table|tbw
आईना|m|mirror|tbw
गिलास|m|glass|tbw
प्याला|m|cup|tbw
थाली|f|plate|tbw
चम्मच|m|spoon|tw
चाकू|m|knife|tw
कलम|f|pen|tb
तस्वीर|f|picture|t
कैमरा|m|camera|tb
फ़ोन|m|phone|tb
कंप्यूटर|m|computer|tb
टिकट|m|ticket|t
कंबल|m|blanket|tw
तकिया|m|pillow|tw
तौलिया|m|towel|tw
साबुन|m|soap|t
कंघी|f|comb|t
अँगूठी|f|ring|t
गुड़िया|f|doll|tb
गेंद|f|ball|t
पतंग|f|kite|t
खिलौना|m|toy|tb
छाता|m|umbrella|tb
लालटेन|f|lantern|tb
मोमबत्ती|f|candle|t
रस्सी|f|rope|t
हथौड़ा|m|hammer|t
बंदूक|f|gun|t
तलवार|f|sword|t
सिक्का|m|coin|t
नक्शा|m|map|tr
उपहार|m|gift|t
फूल|m|flower|t
पौधा|m|plant|t
बोतल|f|bottle|tob
टोपी|f|hat|tc
कमीज़|f|shirt|tcw
साड़ी|f|sari|tcw
जूता|m|shoe|tcw
कोट|m|coat|tcw
कुरता|m|kurta|tcw
दुपट्टा|m|scarf|tcw
गाड़ी|f|car|vbw
साइकिल|f|bicycle|vbw
बस|f|bus|vw
रिक्शा|m|rickshaw|vw
ट्रक|m|truck|vw
नाव|f|boat|vb
मोटरसाइकिल|f|motorcycle|vbw
सेब|m|apple|tew
केला|m|banana|te
आम|m|mango|tew
संतरा|m|orange|te
अंडा|m|egg|te
समोसा|m|samosa|te
लड्डू|m|laddu|te
टमाटर|m|tomato|tew
गाजर|f|carrot|tew
दरवाज़ा|m|door|ob
खिड़की|f|window|obw
फाटक|m|gate|o
अलमारी|f|cupboard|o
ताला|m|lock|otb
पंखा|m|fan|tb
रेडियो|m|radio|tb
बाल्टी|f|bucket|tw
सीढ़ी|f|ladder|tb
टोकरी|f|basket|tw
मटका|m|pot|tbw
झंडा|m|flag|t
ढोल|m|drum|tb
बाँसुरी|f|flute|tb
अनुबंध|m|contract|rk
सूची|f|list|rk
संदेश|m|message|rk
"""

# mass nouns: no article in English; d drink, e food, x can be bought
MASS = """
चाय|f|tea|dx
कॉफ़ी|f|coffee|dx
पानी|m|water|d
दूध|m|milk|dx
रस|m|juice|dx
शरबत|m|sherbet|dx
सूप|m|soup|dx
चावल|m|rice|ex
दाल|f|dal|ex
खाना|m|food|e
चीनी|f|sugar|x
नमक|m|salt|x
मक्खन|m|butter|ex
शहद|m|honey|ex
पनीर|m|cheese|ex
मछली|f|fish|ex
खिचड़ी|f|khichdi|e
कपड़ा|m|cloth|x
तेल|m|oil|x
दवा|f|medicine|x
"""

# places: English preposition for being there follows the class: i in, n on
PLACES = """
बाज़ार|m|market|i
स्कूल|m|school|i
अस्पताल|m|hospital|i
दफ़्तर|m|office|i
स्टेशन|m|station|i
मंदिर|m|temple|i
बाग़|m|park|i
होटल|m|hotel|i
दुकान|f|shop|i
बैंक|m|bank|i
गाँव|m|village|i
शहर|m|city|i
जंगल|m|forest|i
बगीचा|m|garden|i
हवाई अड्डा|m|airport|i
पुस्तकालय|m|library|i
महल|m|palace|i
किला|m|fort|i
मैदान|m|field|i
रसोई|f|kitchen|i
कमरा|m|room|i
छत|f|roof|n
पहाड़|m|mountain|n
सिनेमाघर|m|cinema|i
पुल|m|bridge|n
कारख़ाना|m|factory|i
कॉलेज|m|college|i
जेल|f|prison|i
झील|f|lake|i
गुफ़ा|f|cave|i
द्वीप|m|island|n
सड़क|f|road|n
"""

CITIES = """
दिल्ली|Delhi
मुंबई|Mumbai
कोलकाता|Kolkata
चेन्नई|Chennai
जयपुर|Jaipur
आगरा|Agra
लखनऊ|Lucknow
पटना|Patna
भोपाल|Bhopal
हैदराबाद|Hyderabad
गोवा|Goa
शिमला|Shimla
कश्मीर|Kashmir
लंदन|London
पेरिस|Paris
"""

NAMES = """
राम|m|Ram
श्याम|m|Shyam
मोहन|m|Mohan
अमित|m|Amit
विजय|m|Vijay
अर्जुन|m|Arjun
राहुल|m|Rahul
रवि|m|Ravi
सुरेश|m|Suresh
करण|m|Karan
विक्रम|m|Vikram
अनिल|m|Anil
राजेश|m|Rajesh
समीर|m|Sameer
गोपाल|m|Gopal
दीपक|m|Deepak
संजय|m|Sanjay
मनोज|m|Manoj
नवीन|m|Naveen
सीता|f|Sita
गीता|f|Geeta
राधा|f|Radha
मीरा|f|Meera
प्रिया|f|Priya
अंजलि|f|Anjali
पूजा|f|Pooja
नेहा|f|Neha
काजल|f|Kajal
सुनीता|f|Sunita
लक्ष्मी|f|Lakshmi
रेखा|f|Rekha
शांति|f|Shanti
कमला|f|Kamala
ज्योति|f|Jyoti
मधु|f|Madhu
सलमा|f|Salma
"""

# people: hindi|gender|english|class: s plain, h honorific (plural agreement), i masculine in -आ that does not inflect
KIN = """
भाई|m|brother|s
बहन|f|sister|s
बेटा|m|son|s
बेटी|f|daughter|s
दोस्त|m|friend|s
माँ|f|mother|h
पिता|m|father|hi
दादा|m|grandfather|hi
दादी|f|grandmother|h
चाचा|m|uncle|hi
चाची|f|aunt|h
पति|m|husband|h
पत्नी|f|wife|s
पड़ोसी|m|neighbor|s
नौकर|m|servant|s
"""

PEOPLE = """
लड़का|m|boy|s
लड़की|f|girl|s
आदमी|m|man|s
औरत|f|woman|s
बच्चा|m|child|s
डॉक्टर|m|doctor|s
अध्यापक|m|teacher|s
चोर|m|thief|s
सैनिक|m|soldier|s
किसान|m|farmer|s
राजा|m|king|si
रानी|f|queen|s
मेहमान|m|guest|s
कप्तान|m|captain|s
वकील|m|lawyer|s
दर्ज़ी|m|tailor|s
नर्स|f|nurse|s
मैनेजर|m|manager|s
ड्राइवर|m|driver|s
गायक|m|singer|s
लेखक|m|writer|s
मछुआरा|m|fisherman|s
जादूगर|m|magician|s
धोबी|m|washerman|s
"""

ANIMALS = """
कुत्ता|m|dog
बिल्ली|f|cat
घोड़ा|m|horse
गाय|f|cow
हाथी|m|elephant
बंदर|m|monkey
चिड़िया|f|bird
शेर|m|lion
बकरी|f|goat
साँप|m|snake
ख़रगोश|m|rabbit
"""

# adjectives of things: hindi|english
ADJ_THING = """
बड़ा|big
छोटा|small
नया|new
पुराना|old
अच्छा|good
सस्ता|cheap
महँगा|expensive
लंबा|long
गंदा|dirty
काला|black
पीला|yellow
नीला|blue
हरा|green
भारी|heavy
साफ़|clean
सुंदर|beautiful
लाल|red
सफ़ेद|white
मज़बूत|strong
ख़राब|bad
हल्का|light
टूटा हुआ|broken
"""
ADJ_PLACE = """
बड़ा|big
छोटा|small
नया|new
पुराना|old
सुंदर|beautiful
मशहूर|famous
ख़तरनाक|dangerous
सुरक्षित|safe
ख़ाली|empty
अँधेरा|dark
"""
ADJ_FOOD = """
गरम|hot
ठंडा|cold
मीठा|sweet
ताज़ा|fresh
कड़वा|bitter
स्वादिष्ट|delicious
तैयार|ready
"""
ADJ_PERSON = """
ख़ुश|happy
उदास|sad
नाराज़|angry
बीमार|sick
थका हुआ|tired
व्यस्त|busy
अमीर|rich
ग़रीब|poor
ईमानदार|honest
बहादुर|brave
होशियार|clever
अकेला|alone
तैयार|ready
परेशान|worried
मोटा|fat
पतला|thin
भूखा|hungry
प्यासा|thirsty
चुप|silent
ज़िंदा|alive
आज़ाद|free
लालची|greedy
आलसी|lazy
घायल|injured
दयालु|kind
"""

# transitive verbs on things: hindi nominal (or -)|stem|english base,3sg,past,participle,ing[,particle]|object classes
VERBS_THING = """
-|पढ़|read,reads,read,read,reading|r
-|लिख|write,writes,wrote,written,writing|k
-|ख़रीद|buy,buys,bought,bought,buying|tvx
-|बेच|sell,sells,sold,sold,selling|tvx
-|खोल|open,opens,opened,opened,opening|o
बंद|कर|close,closes,closed,closed,closing|o
-|ढूँढ|look,looks,looked,looked,looking,for|tv
-|ला|bring,brings,brought,brought,bringing|tx
-|भेज|send,sends,sent,sent,sending|t
-|तोड़|break,breaks,broke,broken,breaking|b
-|छिपा|hide,hides,hid,hidden,hiding|t
-|उठा|lift,lifts,lifted,lifted,lifting|t
-|धो|wash,washes,washed,washed,washing|w
-|चुरा|steal,steals,stole,stolen,stealing|tv
-|पहन|wear,wears,wore,worn,wearing|c
-|माँग|demand,demands,demanded,demanded,demanding|t
-|चला|drive,drives,drove,driven,driving|v
साफ़|कर|clean,cleans,cleaned,cleaned,cleaning|bw
ठीक|कर|repair,repairs,repaired,repaired,repairing|bv
इस्तेमाल|कर|use,uses,used,used,using|tv
-|खा|eat,eats,ate,eaten,eating|e
-|पी|drink,drinks,drank,drunk,drinking|d
-|देख|see,sees,saw,seen,seeing|tvr
-|बना|make,makes,made,made,making|tc
-|रख|keep,keeps,kept,kept,keeping|t
-|छू|touch,touches,touched,touched,touching|tv
-|फेंक|throw,throws,threw,thrown,throwing|t
-|चुन|choose,chooses,chose,chosen,choosing|tv
पसंद|कर|prefer,prefers,preferred,preferred,preferring|tvde
"""

# verbs on people: postposition|nominal|stem|english forms|agreement of the perfective (- subject, m, f)
VERBS_PERSON = """
को|-|देख|see,sees,saw,seen,seeing|m
को|-|बुला|invite,invites,invited,invited,inviting|m
को|-|बचा|save,saves,saved,saved,saving|m
को|-|ढूँढ|look,looks,looked,looked,looking,for|m
को|-|पहचान|recognize,recognizes,recognized,recognized,recognizing|m
को|फ़ोन|कर|call,calls,called,called,calling|m
को|माफ़|कर|forgive,forgives,forgave,forgiven,forgiving|m
को|याद|कर|miss,misses,missed,missed,missing|m
को|-|डरा|scare,scares,scared,scared,scaring|m
को|-|पकड़|catch,catches,caught,caught,catching|m
से|-|मिल|meet,meets,met,met,meeting|-
से|बात|कर|talk,talks,talked,talked,talking,to|f
से|शादी|कर|marry,marries,married,married,marrying|f
से|नफ़रत|कर|hate,hates,hated,hated,hating|f
से|-|डर|fear,fears,feared,feared,fearing|-
की|मदद|कर|help,helps,helped,helped,helping|f
की|तारीफ़|कर|praise,praises,praised,praised,praising|f
का|इंतज़ार|कर|wait,waits,waited,waited,waiting,for|m
का|पीछा|कर|follow,follows,followed,followed,following|m
पर|भरोसा|कर|trust,trusts,trusted,trusted,trusting|m
पर|हमला|कर|attack,attacks,attacked,attacked,attacking|m
"""

# intransitive verbs without a complement: nominal|stem|english forms|agreement (- subject, m with ने)|classes
# i can be an imperative, a an action that animals do too
VERBS_ALONE = """
-|सो|sleep,sleeps,slept,slept,sleeping|-|ia
-|दौड़|run,runs,ran,run,running|-|ia
-|भाग|flee,flees,fled,fled,fleeing|-|a
-|हँस|laugh,laughs,laughed,laughed,laughing|-|i
-|रो|cry,cries,cried,cried,crying|-|i
-|नाच|dance,dances,danced,danced,dancing|-|i
-|तैर|swim,swims,swam,swum,swimming|-|ia
-|खेल|play,plays,played,played,playing|-|ia
-|रुक|stop,stops,stopped,stopped,stopping|-|ia
-|गिर|fall,falls,fell,fallen,falling|-|a
-|लौट|return,returns,returned,returned,returning|-|
इंतज़ार|कर|wait,waits,waited,waited,waiting|m|i
आराम|कर|rest,rests,rested,rested,resting|m|i
काम|कर|work,works,worked,worked,working|m|i
कोशिश|कर|try,tries,tried,tried,trying|f|i
झूठ|बोल|lie,lies,lied,lied,lying|-|
-|चिल्ला|shout,shouts,shouted,shouted,shouting|-|i
-|मुस्कुरा|smile,smiles,smiled,smiled,smiling|-|i
-|गा|sing,sings,sang,sung,singing|m|i
-|नहा|bathe,bathes,bathed,bathed,bathing|-|ia
-|कूद|jump,jumps,jumped,jumped,jumping|-|ia
-|बैठ|sit,sits,sat,sat,sitting|-|i
-|हार|lose,loses,lost,lost,losing|-|
-|जीत|win,wins,won,won,winning|-|
"""

# verbs with a place: relation (to: bare in Hindi, from: से, in: में/पर)|nominal|stem|english forms|agreement
VERBS_PLACE = """
to|-|जा|go,goes,went,gone,going|-
to|-|आ|come,comes,came,come,coming|-
from|-|लौट|return,returns,returned,returned,returning|-
from|-|भाग|flee,flees,fled,fled,fleeing|-
from|-|निकल|leave,leaves,left,left,leaving|-
in|-|सो|sleep,sleeps,slept,slept,sleeping|-
in|-|खेल|play,plays,played,played,playing|-
in|-|रह|live,lives,lived,lived,living|-
in|इंतज़ार|कर|wait,waits,waited,waited,waiting|m
in|काम|कर|work,works,worked,worked,working|m
in|-|घूम|wander,wanders,wandered,wandered,wandering|-
in|-|बैठ|sit,sits,sat,sat,sitting|-
"""

TIMES_PAST = """
कल|yesterday
आज|today
आज सुबह|this morning
कल रात|last night
पिछले साल|last year
पिछले हफ़्ते|last week
पिछले महीने|last month
"""
TIMES_FUTURE = """
कल|tomorrow
आज|today
आज शाम|this evening
कल सुबह|tomorrow morning
अगले साल|next year
अगले हफ़्ते|next week
अगले महीने|next month
अभी|now
थोड़ी देर में|in a while
"""
TIMES_HABIT = """
रोज़|every day
हर सुबह|every morning
हर शाम|every evening
हर साल|every year
हर हफ़्ते|every week
"""
DAYS = """
सोमवार|Monday
मंगलवार|Tuesday
बुधवार|Wednesday
गुरुवार|Thursday
शुक्रवार|Friday
शनिवार|Saturday
रविवार|Sunday
"""
MONTHS = """
जनवरी|January
फ़रवरी|February
मार्च|March
अप्रैल|April
जून|June
जुलाई|July
अगस्त|August
सितंबर|September
अक्टूबर|October
नवंबर|November
दिसंबर|December
"""
LANGUAGES = """
हिंदी|f|Hindi
अंग्रेज़ी|f|English
तमिल|f|Tamil
बंगाली|f|Bengali
पंजाबी|f|Punjabi
उर्दू|f|Urdu
"""
JOBS = """
डॉक्टर|doctor
अध्यापक|teacher
वकील|lawyer
किसान|farmer
सैनिक|soldier
गायक|singer
लेखक|writer
इंजीनियर|engineer
अभिनेता|actor
वैज्ञानिक|scientist
रसोइया|cook
पत्रकार|journalist
"""

# abstract likes: "मुझे X पसंद है" -> "I like X"
LIKES = """
संगीत|music
क्रिकेट|cricket
नाच|dancing
बारिश|rain
सर्दी|winter
गणित|mathematics
इतिहास|history
विज्ञान|science
शतरंज|chess
"""

NUMBERS_HI = (
    "शून्य एक दो तीन चार पाँच छह सात आठ नौ दस ग्यारह बारह तेरह चौदह पंद्रह सोलह सत्रह अठारह उन्नीस "
    "बीस इक्कीस बाईस तेईस चौबीस पच्चीस छब्बीस सत्ताईस अट्ठाईस उनतीस तीस इकतीस बत्तीस तैंतीस चौंतीस पैंतीस "
    "छत्तीस सैंतीस अड़तीस उनतालीस चालीस इकतालीस बयालीस तैंतालीस चौवालीस पैंतालीस छियालीस सैंतालीस अड़तालीस "
    "उनचास पचास इक्यावन बावन तिरपन चौवन पचपन छप्पन सत्तावन अट्ठावन उनसठ साठ इकसठ बासठ तिरसठ चौंसठ पैंसठ "
    "छियासठ सड़सठ अड़सठ उनहत्तर सत्तर इकहत्तर बहत्तर तिहत्तर चौहत्तर पचहत्तर छिहत्तर सतहत्तर अठहत्तर उन्यासी "
    "अस्सी इक्यासी बयासी तिरासी चौरासी पचासी छियासी सत्तासी अट्ठासी नवासी नब्बे इक्यानवे बानवे तिरानवे "
    "चौरानवे पंचानवे छियानवे सत्तानवे अट्ठानवे निन्यानवे"
).split()

_EN_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_EN_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()


def number_en(n: int) -> str:
    """English words of 0..99 without hyphens ("twenty five")."""
    if n < len(_EN_UNITS):
        return _EN_UNITS[n]
    tens, unit = divmod(n, 10)
    return _EN_TENS[tens] if unit == 0 else f"{_EN_TENS[tens]} {_EN_UNITS[unit]}"


# fixed lines: whole sentences whose words need not appear anywhere else; always part of the training set
FIXED = """
नमस्ते।|Hello.
धन्यवाद।|Thank you.
शुभ रात्रि।|Good night.
फिर मिलेंगे।|See you again.
क्या हुआ?|What happened?
कोई बात नहीं।|No problem.
चिंता मत कीजिए।|Do not worry.
अंदर आइए।|Come inside.
बाहर जाइए।|Go outside.
चुप रहिए।|Be quiet.
मेरी बात सुनिए।|Listen to me.
मुझे अकेला छोड़ दीजिए।|Leave me alone.
मैं समझ गया।|I understood.
मुझे समझ नहीं आया।|I did not understand.
आप कैसे हैं?|How are you?
मैं ठीक हूँ।|I am fine.
आपका नाम क्या है?|What is your name?
आप कहाँ से हैं?|Where are you from?
यह सच है।|This is true.
यह झूठ है।|This is a lie.
सब कुछ ठीक हो जाएगा।|Everything will be fine.
बहुत देर हो गई है।|It is very late.
अब क्या करें?|What should we do now?
हमारे पास समय नहीं है।|We do not have time.
मेरे पास पैसे नहीं हैं।|I do not have money.
आपको क्या चाहिए?|What do you need?
कितने बजे हैं?|What time is it?
यह कितने का है?|How much does this cost?
वहाँ कौन है?|Who is there?
दरवाज़े पर कौन है?|Who is at the door?
मुझे जाने दीजिए।|Let me go.
हमें यहाँ से निकलना होगा।|We must get out of this place.
पीछे मुड़कर मत देखिए।|Do not look back.
मुझे आप पर गर्व है।|I am proud of you.
जन्मदिन मुबारक हो।|Happy birthday.
बधाई हो।|Congratulations.
आपका स्वागत है।|You are welcome.
अपना ध्यान रखिए।|Take care of yourself.
यह नामुमकिन है।|This is impossible.
आप सही हैं।|You are correct.
आप ग़लत हैं।|You are wrong.
मुझे डर लग रहा है।|I am scared.
मुझे नींद आ रही है।|I am sleepy.
मेरे सिर में दर्द है।|I have a headache.
बारिश हो रही है।|It is raining.
आज मौसम अच्छा है।|The weather is nice today.
खेल ख़त्म हो गया।|The game is over.
भगवान आपका भला करे।|May God bless you.
यह हमारा राज़ है।|This is our secret.
"""
