"""What the style files of Musical MIDI Accompaniment are called, and what is composed for them.

A row names style files of its library, the style they play, the style of ours whose chords, melodies and sound suit it,
the tempo, wider genres and, if it needs others, the pool of progressions. Where the style is one of ours by name, all
that is said of that style may be said of the band; otherwise only the name and the genres of the row.
"""

from dataclasses import replace

from musiclm.arrange.styles import STYLES, Style
from musiclm.arrange.styles.recipe import line

_MELODY = line(
    "melody",
    "flute | alto sax | clarinet | trumpet | violin | vibraphone | clean electric guitar | harmonica",
    enters=0.25,
)
# style files | style | style of ours | quarters a minute | genres | pools of progressions, if not those of ours
_ROWS = """
bossanova, kbossa, jazzbossa | bossa nova | bossa nova | 112-140
samba, quando-g.s280 | samba | samba | 88-112
salsa, salsa1, salsa2 | salsa | salsa | 160-200
calypso | calypso | calypso | 100-126
tango, lighttango | tango | tango | 112-132
polka, polkafox, poppolka | polka | polka | 112-136
bluegrass | bluegrass | bluegrass | 128-164
swing, jazzswing, jazzbasie | swing jazz | swing jazz | 120-190
bigband, fastbigband | big band | big band | 120-180
middlebigband, slowbigband | slow big band swing | big band | 76-100 | jazz, big band
jazzwaltz, modernjazzwaltz, fastjazzwaltz | jazz waltz | jazz waltz | 132-180
dixie | dixieland | dixieland | 170-220
ragtime | ragtime | ragtime | 84-116
ska | ska | ska | 140-176
soul, 60ssoul, soulpop | soul | soul | 88-124
funk1, funk2, bvfunk | funk | funk | 96-118
fusion, jazzrock | jazz fusion | jazz fusion | 100-140
techno, teamtechno | techno | techno | 125-142
house | house | house | 118-128
trance, trance1, trance2 | trance | trance | 132-142
electricpop | electro pop | electro pop | 108-128
heavymetal, metal1, metal2 | heavy metal | heavy metal | 120-160
hiphop, hip-hop | hip hop | boom bap hip hop | 84-100 | hip hop
vienesewaltz | viennese waltz | viennese waltz | 150-186
frenchwaltz | musette waltz | musette waltz | 156-196
march, march1, bwmarch, germanmarch | march | military march | 104-126 | march
folkballad | folk ballad | folk ballad | 72-104
westernswing, countryswing | western swing | country | 120-170 | country, swing
slowcountry, jazzcountry | slow country | country | 72-96 | country
countryblues | country blues | country | 84-120 | country, blues | blues 4/4
countrywaltz | country waltz | country | 100-150 | country, waltz
western | country and western | country | 110-150 | country
hillcountry | hillbilly country | country | 110-150 | country
easyswing, slowswing, jazzbouncy | easy swing | swing jazz | 96-132 | jazz, swing
fastswing | fast swing | swing jazz | 180-220 | jazz, swing
bebop | bebop | swing jazz | 180-230 | jazz, bebop
gypsyjazz | gypsy jazz | swing jazz | 150-210 | jazz
jazzguitar, jazzGrtrio | jazz guitar combo | lounge jazz trio | 90-140 | jazz
jazzcombo, jazztrio, descendingjazz | small jazz combo | lounge jazz trio | 100-150 | jazz
modernjazz, evansish | modern jazz | lounge jazz trio | 100-150 | jazz
mellowjazz, nitejazz | mellow jazz | lounge jazz trio | 80-120 | jazz
slowjazz | slow jazz | lounge jazz trio | 60-88 | jazz
folkyjazz | folk jazz | lounge jazz trio | 90-130 | jazz, folk
charleston | charleston | swing jazz | 180-220 | jazz
softshoe | soft shoe | swing jazz | 96-126 | jazz
blues, fastblues | blues | slow blues | 100-150 | blues | blues 4/4
slowblues | slow blues in four | slow blues | 60-84 | blues | blues 4/4
boggiewoggie, shuffleboggie, shuffleboogie | boogie-woogie | boogie-woogie piano | 130-170 | blues, boogie
rb, r+b, rb-ballad, mellowrb, modernrb, dsoul | rhythm and blues | soul | 76-116 | rhythm and blues
8beatmotown | Motown soul | soul | 100-130 | soul
discosoul, boneym | disco | disco | 110-126
spiritual, popspiritual, slowspiritual | spiritual | gospel | 80-130 | gospel
50srock, rock-128, jive | 1950s rock and roll | rock | 120-170 | rock, rock and roll
60srock | 1960s rock | rock | 110-140 | rock
60spop | 1960s pop | pop | 110-140 | pop
80spop | 1980s pop | pop | 100-130 | pop
twist, fasttwist, twi | twist | rock | 140-170 | rock and roll
8beat, 8beat1, 8beat2, 8beatpop1, 8beatpop2, 8beatpop3, 8beatdance | pop rock | pop | 100-140 | pop, rock
pop, poprock1, poprock2, bubblerock | pop rock | pop | 100-140 | pop, rock
basicrock, rock1, rock2, w-rock, strut, highfive, 16beat1 | rock | rock | 100-140 | rock
softrock, slowrock | soft rock | pop | 72-112 | rock
shufflerock, popshuffle1, popshuffle2, happyshuffle | shuffle | pop | 110-140 | pop, rock
16shuffle1, 16beat2, 16beat3, slow16beat | sixteen-beat pop | pop | 84-112 | pop
rockballad, popballad, ballad, oldieballad, serenade, guitarballad | ballad | soft rock ballad | 64-88 | ballad
8beatballad1, 16beatballad1, 16beatballad2, 16beatballad3 | ballad | soft rock ballad | 64-88 | ballad
pianoballad, stringballad | slow ballad | soft rock ballad | 58-80 | ballad
rockwaltz, popwaltz | pop waltz | pop | 100-150 | pop, waltz
waltz, fastwaltz, broadwaywaltz, latinwaltz, arpeggiowaltz | waltz | waltz | 110-170 | waltz
folk, bluefolk | folk | folk ballad | 84-120 | folk
folkrock | folk rock | folk ballad | 100-130 | folk, rock
hymn | hymn | hymn | 72-100 | hymn
lullaby, arpeggio44 | lullaby | folk ballad | 66-92 | lullaby
foxtrot, quickstep | foxtrot | swing jazz | 116-136 | ballroom dance
broadway, slowbroadway, showtune | show tune | swing jazz | 90-140 | show tune
rhumba, beguine, jazzrhumba | rumba | latin | 96-124 | latin
bolero, slowbolero | bolero | latin | 72-100 | latin
chacha | cha-cha-cha | latin | 112-128 | latin
mambo | mambo | latin | 160-200 | latin
merengue | merengue | latin | 130-160 | latin
son, cubanguitar | Cuban son | latin | 120-160 | latin
lfusion, latinfusion | latin fusion | latin | 100-130 | latin, fusion
latinhouse | latin house | house | 118-128 | house, latin
zydeco | zydeco | folk ballad | 120-150 | folk
dancepop1, dancepop2, dancepop3 | dance pop | electro pop | 112-130 | dance, pop
dance1, dance2, rave, ambient1, ambient2, ambient3 | electronic dance music | house | 118-136 | electronic, dance
desert | desert ballad | folk ballad | 80-110 | ballad
"""
# stand-ins for `style of ours` where none is neutral enough to lend more than this
_PLAIN: dict[str, tuple[str, tuple[str, ...]]] = {
    "rock": ("surf rock", ("rock", "pop")),
    "pop": ("indie rock", ("pop", "ballad")),
    "waltz": ("musette waltz", ("waltz",)),
    "hymn": ("church organ chorale", ("classical",)),
    "latin": ("salsa", ("latin",)),
}


def _kinds() -> tuple[dict[str, Style], dict[str, str], dict[str, tuple[str, ...]]]:
    """Styles by name, names by style file, and drum kits by name."""
    styles: dict[str, Style] = {}
    names: dict[str, str] = {}
    kits: dict[str, tuple[str, ...]] = {}
    for row in _ROWS.strip().splitlines():
        files, name, like, tempo, genres, pools = ([cell.strip() for cell in row.split("|")] + ["", ""])[:6]
        base = STYLES[_PLAIN[like][0] if like in _PLAIN else like]
        progressions = (pools,) if pools else _PLAIN[like][1] if like in _PLAIN else base.progressions
        low, high = (float(bpm) for bpm in tempo.split("-"))
        style = base if name in STYLES else replace(base, moods=(), uses=(), era="", genres=tuple(genres.split(", ")))
        melody = tuple(player for player in base.lines if player.role == "melody")[:1] or (_MELODY,)
        if like in _PLAIN:
            melody = (_MELODY,)
        styles[name] = replace(
            style,
            name=name,
            tempo=(low, high),
            lines=melody,
            progressions=progressions,
            swing=(0.5, 0.5),
            endings=("final chord",),
        )
        kits[name] = next((player.instruments for player in base.lines if player.role == "drums"), ("drum kit",))
        names |= {file.strip(): name for file in files.split(",")}
    return styles, names, kits


BAND_STYLES, _STYLE_OF_FILE, BAND_KITS = _kinds()


def style_of_band(file: str) -> Style | None:
    """The style that a file such as "stdlib/bossanova" plays; None if it has no row."""
    name = _STYLE_OF_FILE.get(file.rsplit("/", 1)[-1])
    return BAND_STYLES[name] if name else None


def find_style(name: str) -> Style | None:
    """A style of the arranger's or of a band's by the name that a score gives. None for finished works."""
    return STYLES.get(name) or BAND_STYLES.get(name)
