"""How people write about music, as a grammar: rule names, and below each the ways to expand it.

`{name}` is another rule, or a slot that `captions` fills from the facts; a way with a slot that nothing fills is passed over. `{v:is|are}`
agrees with the noun before it, `a(n)` becomes the article that fits. What a way states beyond its slots is in its rule's
name: the rules below `fact:` are reached through slots that check the fact first.
"""

TEXT = """
opening
  If one had to name it: a(n) {mood} {thing}.
  A(n) {mood} excerpt of {stylemass}.
  {stylemass} through and through, {mood} and {mood}.
  The track belongs to the world of {stylemass}.
  An example of {mood} {stylemass}.
  This snippet is taken from a(n) {mood} {thing}.
  A(n) {mood} {thing} unfolds {played_on}.
  The listener hears a(n) {mood} {thing}.
  The audio contains a(n) {mood} {thing}.
  This music is {mood}, {mood} and {speed}.
  It is a piece of {stylemass}, {instrumental} and {mood}.
  The song is {speed} with {names}.
  {lead} {v:opens|open} up a(n) {mood} {thing}.
  This audio contains {band} playing a(n) {mood} {thing}.
  A(n) {speed} and {mood} {thing} at {bpm}.
  This one is {stylemass}: {mood}, {mood} and {speed}.
  A band plays {mood} {stylemass} with {band}.
  {band} perform a(n) {mood} {thing}.
  This is a(n) {mood} {thing}.
  This is a(n) {mood} {thing} {played_on}.
  This is a(n) {speed} {thing} {played_on}.
  A(n) {mood} {thing} {played_on}.
  A(n) {mood}, {mood} {thing}.
  A(n) {speed}, {mood} {thing}.
  A(n) {speed} {thing} that sounds {mood} and {mood}.
  We hear a(n) {mood} {thing} {played_on}.
  Here is a(n) {mood} {thing}.
  Here we have a(n) {speed} {thing}, {mood} in character.
  The clip is a(n) {instrumental} {thing} with a(n) {mood} feel.
  This clip features a(n) {mood} {thing}.
  The piece is a(n) {mood} {thing}.
  What we hear is a(n) {mood} {thing}.
  It's a(n) {mood} {thing}, {speed} and {mood}.
  Someone has made a(n) {mood} {thing} here.
  An excerpt of {stylemass} that is {mood} and {mood}.
  This is {stylemass}, {mood} and {mood}.
  {stylemass} with a(n) {mood} touch.
  {mood} and {mood} {stylemass}.
  {speed} {stylemass} {played_on}.
  The style is {stylemass}.
  The genre is {stylemass} and the music is {mood}.
  A stretch of {mood} {stylemass}.
  {stylemass} in a(n) {mood} mood.
  This {thing} is {mood} and {mood}.
  The {thing} is {speed} and {mood}.
  The music is {instrumental}, {mood} and {mood}.
  A(n) {instrumental} {thing}.
  Listen to this {mood} {thing}.
  The recording holds a(n) {mood} {thing} {played_on}.
  A(n) {instrumental} {thing} in the style of {stylemass}.

played_on
  featuring {names}
  with {names}
  played on {names}
  built around {lead}
  led by {lead}
  with {lead} in the foreground
  with {lead} out front
  in which {lead} {v:leads|lead}
  performed on {everyone}
  for {everyone}
  carried by {lead}
  {solo_on}

features
  Among the instruments are {band}.
  The instrumentation includes {band}.
  It makes use of {names}.
  Its sound is shaped by {names}.
  Prominent are {band}.
  The texture is woven from {parts}.
  Ingredients of the sound: {parts}.
  There is plenty to hear: {parts}.
  The musicians play {band}.
  It features {parts}.
  The arrangement consists of {all_parts}.
  {there:parts}.
  The track features {parts}.
  The song contains {parts}.
  Featured are {parts}.
  You can hear {parts}.
  One hears {parts}.
  We hear {parts}.
  It is made up of {all_parts}.
  {all_parts} make up the arrangement.
  {parts} can be heard.
  In the mix {there:parts}.
  The instrumentation consists of {everyone}.
  The instruments are {everyone}.
  The line-up is {everyone}.
  The ensemble: {everyone}.
  The sound is built from {parts}.
  {band} play together.
  The players are {everyone}.
  It is performed by {everyone}.

layers
  It has a(n) {lead_mod} melody played over {backing}, {bass} and {drums}.
  A(n) {lead_mod} melody plays over {backing}, {bass} and {drums}.
  It features a(n) {lead_mod} melody over {backing}.
  It consists of {all_parts}.
  The song has a(n) {lead_mod} melody over {drums}, with {bass} underneath.
  The {lead_mod} melody is backed by {backing}, while {drums} {v:keeps|keep} the beat.
  {lead} {v:plays|play} the melody while {backing} {v:fills|fill} the background.
  {lead} {v:carries|carry} the tune over {backing} and {bass}.
  {lead} {v:leads|lead}, accompanied by {backing}.
  A(n) {riff_mod} riff runs over {drums} and {bass}.
  There is a(n) {riff_mod} riff over {drums}, and {backing} in the background.
  Over {drums} and {bass} we hear {lead}, supported by {backing}.
  {bass} and {drums} lay the foundation for {lead} and {backing}.
  {pad} {v:forms|form} the background for {lead}.
  {arpeggio} {v:ripples|ripple} behind {lead}.
  {chords} and {bass} accompany {lead}.
  The layers are {all_parts}.
  On top of {drums} {there:lead}, with {backing} behind.
  {parts} are layered on top of each other.

melody
  {lead} {v:delivers|deliver} the melody{lead_how}.
  The melodic line is given to {lead}.
  The main voice is {lead}{lead_how}.
  {lead} {v:presents|present} the theme{lead_how}.
  A(n) {lead_mod} theme stands out.
  The leading melody comes from {lead}.
  The hook is a(n) {lead_mod} melody.
  The spotlight is on {lead}.
  {lead} {v:shapes|shape} the melody{lead_how}.
  The ear follows {lead}.
  {lead} {v:weaves|weave} the melody{lead_how}.
  The main melody is played by {lead}.
  The melody is carried by {lead}.
  {lead} {v:plays|play} the main melody.
  {lead} {v:carries|carry} the tune.
  {lead} {v:takes|take} the lead.
  {lead} {v:is|are} playing the melody{lead_how}.
  {lead} {v:is|are} in the lead{lead_how}.
  The lead is {lead}{lead_how}.
  The tune is on {lead}.
  The melody belongs to {lead}.
  {lead} {v:sings|sing} out the theme.
  {lead} {v:leads|lead} with the melody.
  On top {there:lead} playing the tune.
  It has a(n) {lead_mod} melody{lead_how}.
  There is a(n) {lead_mod} melody on top{lead_how}.
  A(n) {lead_mod} melody runs through it.
  The theme is stated by {lead}.
  We hear a(n) {lead_mod} playing the melody{lead_how}.
  The {lead_mod} melody is {fact_pace}.
  The {lead_mod} melody sits {fact_register}.
  {lead} {v:has|have} the melody, and {counter} {v:answers|answer} it.
  {lead} and {counter} share the melodic lines.
  A countermelody on {counter} weaves around the {lead_mod} melody.

riff
  {riff} {v:plays|play} the riff.
  It is driven by a(n) {riff_mod} riff.
  There is a(n) {riff_mod} riff.
  The riff comes from {riff}.
  A(n) {riff_mod} riff holds it together.
  A repetitive riff on {riff_again} is the hook.
  {riff_again} {v:repeats|repeat} a riff over and over.
  The {riff_mod} riff keeps coming round.

backing
  {backing} {v:underpins|underpin} it.
  The harmonic support comes from {backing}.
  {backing} {v:sets|set} the scene behind.
  The background consists of {backing}.
  {backing} {v:rounds|round} out the sound.
  {backing} {v:keeps|keep} the harmony moving.
  {chords} {v:supplies|supply} the harmony.
  {pad} {v:swells|swell} in the background.
  {arpeggio} {v:outlines|outline} the chords note by note.
  It is accompanied by {backing}.
  {backing} {v:accompanies|accompany} it.
  {backing} {v:provides|provide} the backing.
  {backing} {v:fills|fill} in the harmony.
  The harmony comes from {backing}.
  The accompaniment is {backing}.
  In the background {there:backing}.
  {backing} {v:supports|support} it.
  {backing} can be heard behind it.
  Underneath {there:backing}.
  The backing is made of {backing}.
  Behind that one hears {backing}.
  It is supported by {backing}.
  The chords come from {chords}.
  {chords} {v:plays|play} the chords.
  {chords} {v:is|are} playing chords.
  {arpeggio} {v:plays|play} arpeggios.
  {arpeggio} {v:breaks|break} the chords into arpeggios.
  {arpeggio} {v:spins|spin} out arpeggiated chords.
  {pad} {v:holds|hold} long chords in the background.
  {pad} {v:lays|lay} down a bed of sustained harmony.
  Long notes on {pad} fill the background.

bass
  The bottom end is covered by {bass}.
  {bass} {v:gives|give} it weight.
  {bass} {v:moves|move} along underneath.
  Down below {there:bass}.
  {bass} {v:thickens|thicken} the bottom.
  {bass} {v:grounds|ground} the music.
  The foundation is laid by {bass}.
  {bass} {v:holds|hold} down the low end.
  {bass} {v:plays|play} the bass line.
  The bass line is played on {bass}.
  {bass} {v:provides|provide} the bass.
  {bass} {v:anchors|anchor} the harmony.
  There is a bass line on {bass}.
  The low end belongs to {bass}.
  {bass} {v:supports|support} from below.
  A(n) {bass_mod} line moves underneath.
  {bass_again} {v:repeats|repeat} the same figure.
  {bass_again} {v:loops|loop} a short bass figure.

rhythm
  {drums} {v:propels|propel} the music.
  {drums} {v:holds|hold} it all together.
  The pulse comes from {drums}.
  The rhythm section relies on {drums}.
  A groove on {drums} carries it.
  In the drums one hears {kit}.
  {percussion} {v:spices|spice} up the rhythm.
  {percussion} {v:fills|fill} out the percussion.
  The drumming is done on {drums}.
  {drums} {v:keeps|keep} the rhythm.
  {drums} {v:plays|play} the beat.
  {drums} {v:keeps|keep} time.
  The rhythm is kept by {drums}.
  The beat is played on {drums}.
  The rhythmic background is provided by {drums}.
  {drums} {v:drives|drive} it along.
  The beat comes from {drums}, with {kit}.
  {drums} {v:lays|lay} down the beat, with {kit}.
  The drum part has {kit}.
  One can make out {kit}.
  The groove is built from {kit}.
  The percussion consists of {percussion}.
  {percussion} {v:adds|add} to the rhythm.
  {percussion} {v:adds|add} colour on top of the beat.
  {percussion} {v:joins|join} in.
  {drums} and {percussion} play the rhythm.
  {beat_sentence}

fact:four on the floor
  The kick drum hits every beat.
  The beat is four on the floor.
  A kick on every beat drives it.
  A four-on-the-floor kick runs underneath.
  It has a four-to-the-floor beat.
  The bass drum pounds out all four beats of the bar.

fact:backbeat
  Snare hits land on two and four.
  It rocks along on a backbeat.
  The accents fall on the second and fourth beats.
  The snare falls on two and four.
  There is a strong backbeat.
  The snare marks the second and fourth beats.
  It has a backbeat on the snare.
  A steady backbeat carries it.

absent
  {no_drums}
  {instrumental_sentence}
  {acoustic_sentence}

fact:no drums
  Percussion is absent.
  It is played without a drummer.
  It needs no drums.
  There are no drums.
  No drums or percussion can be heard.
  There is no percussion.
  It does without drums.
  There is no drumming at all.
  The drums are silent.
  No drum is heard.

fact:instrumental
  No one sings on it.
  It is music without words.
  The music speaks without any vocals.
  There are no vocals.
  It is instrumental.
  Nobody sings.
  It's an instrumental.
  There is no singing.
  The piece is purely instrumental.
  No voices are heard.
  There is no singer.

fact:acoustic
  All instruments are acoustic.
  Everything is played on acoustic instruments.
  The sound is all acoustic.
  Nothing in it is electric.

fact:electric
  The sounds are electronic or amplified throughout.
  All of it is played on electric and electronic instruments.
  There is not one acoustic instrument in it.

tempo
  It clocks in at {bpm}.
  The beat ticks along at {bpm}.
  Tempo-wise it is {speed_noun}.
  The music moves along at a(n) {speed_noun} tempo.
  It has a(n) {speed_noun} tempo of {bpm}.
  With {bpm}, it is {speed}.
  The speed is {speed_noun}.
  The pulse is {speed_noun}.
  One can count {bpm}.
  A metronome would show {bpm}.
  The tempo is {speed_noun}.
  It is played at a(n) {speed_noun} tempo.
  The tempo is {speed_noun}, {bpm}.
  The tempo is {bpm}.
  The piece moves at {bpm}.
  It runs at {bpm}.
  It goes at a(n) {speed_noun} pace.
  The pace is {speed_noun}.
  It is {speed}.
  The song is {speed}, at {bpm}.
  Everything moves at a(n) {speed_noun} speed.
  {tempo_change}
  It is in {metre} time.
  It is in {metre}, at {bpm}.
  {metre_sentence}
  {swing_sentence}

fact:slower
  It slows down.
  The tempo drops towards the end.
  The music slows towards its end.
  The pace slackens.
  There is a ritardando.

fact:faster
  It speeds up.
  The tempo picks up.
  The music gets faster.
  There is an accelerando.

fact:3/4
  It moves in triple time.
  The beat goes one, two, three.
  It is a piece in triple metre.
  It is in three.
  There are three beats to the bar.
  It has the lilt of a waltz, three beats to a bar.
  The metre is three-four.
  It is counted in three.

fact:6/8
  It is in six-eight.
  It has a rolling six-eight feel.
  The eighth notes come in groups of three.
  The metre is a lilting six-eight.

fact:swung
  The rhythm swings.
  The eighth notes are swung.
  It has a swing feel.
  It swings.
  The groove is swung.
  There is a shuffle in the rhythm.

fact:straight
  Nothing swings here; the eighths are even.
  The eighths are even.
  The rhythm is straight.
  The eighth notes are played straight.
  It is played with a straight feel.

key
  The tonal centre makes it {key}.
  Harmonically it is in {key}.
  The tune is set in {key}.
  Its key, {key}, is easy to hear.
  A(n) {mode} key sets the colour.
  The scale is that of {key}.
  It leans on a(n) {mode} tonality.
  It is in {key}.
  The key is {key}.
  The piece is in {key}.
  It is written in {key}.
  The music stays in {key}.
  The harmony is in {key}.
  It is in a(n) {mode} key.
  It is in a {mode} key, {key}.
  The tonality is {mode}.
  The music is in the key of {key}.

texture
  {density_sentence}
  {dynamics_sentence}
  {stop_sentence}
  {how_sentence}
  {alone_sentence}
  {section_sentence}
  {repeat_sentence}

fact:sparse
  It is minimal, with long gaps.
  Hardly anything happens, and that is the charm.
  The playing is spare.
  The texture is sparse.
  There is a lot of space between the notes.
  It is sparse, with few notes.
  The arrangement leaves plenty of room.
  Only a few notes are played.
  The music is sparse and uncluttered.

fact:busy
  It is packed with notes.
  There is hardly a moment of rest.
  The instruments play a great many notes.
  The texture is busy.
  There are a lot of notes.
  It is dense and full of notes.
  There is something going on all the time.
  The arrangement is busy.
  The playing is dense and busy.

fact:louder
  The sound keeps growing.
  The intensity increases bit by bit.
  It starts quietly and ends loudly.
  It gets louder.
  The music builds up.
  There is a crescendo.
  It swells as it goes on.
  It grows in intensity.
  The volume rises towards the end.

fact:softer
  It fades and thins out.
  The energy ebbs away.
  It starts out louder than it ends.
  It gets quieter.
  The music dies down.
  There is a diminuendo.
  It becomes softer as it goes on.
  The volume falls towards the end.

fact:stop
  Everything stops for a moment.
  There is a sudden stop.
  The music breaks off and then goes on.
  There is a short pause.
  All instruments fall silent for a moment.

fact:intro
  This is the intro of the piece.
  It sounds like an introduction.
  The piece is just beginning.
  This is the opening.

fact:build-up
  It builds up tension.
  This is a build-up.
  It is building towards something.

fact:break
  This is the break, where the arrangement thins out.
  It is a breakdown.
  This is a break in the middle of the piece.

fact:solo
  An instrument steps forward for a solo.
  Here comes the solo.
  This is the solo.
  It is a solo section.
  This part is a solo.

fact:outro
  It is winding down.
  These are the last bars of the piece.
  This is how the piece closes.
  This is the outro.
  The piece is coming to an end.
  It is the closing section.

fact:ends
  We hear how it ends.
  The last notes ring out.
  That is where the piece finishes.
  The piece ends here.
  It comes to an end.
  At the end the music stops for good.
  The clip closes with the end of the piece.

fact:repeats
  It is loop-like and repetitive.
  The same motif comes back again and again.
  It has a looping, hypnotic motif.
  It is repetitive.
  The same figure is repeated over and over.
  A short pattern keeps repeating.
  It is built on a repeating pattern.
  The music loops around one figure.

fact:staccato
  {how} {v:keeps|keep} the notes short.
  {how} {v:plays|play} in a clipped, staccato manner.
  There is a staccato touch to {how}.
  {how} {v:plays|play} short, detached notes.
  The notes on {how} are short and staccato.
  {how} {v:plays|play} staccato.

fact:sustained
  {how} {v:sustains|sustain} the notes.
  {how} {v:draws|draw} out long tones.
  {how} {v:is|are} played legato, in long tones.
  {how} {v:plays|play} long, sustained notes.
  {how} {v:holds|hold} long notes.
  The notes on {how} are long and held.

fact:high
  {how} {v:is|are} pitched high.
  {how} {v:soars|soar} in the upper register.
  {how} {v:sits|sit} in the upper range.
  {how} {v:plays|play} in a high register.
  {how} {v:plays|play} high up.
  The notes on {how} are high-pitched.

fact:low
  {how} {v:is|are} deep in the lower register.
  {how} {v:rumbles|rumble} down low.
  {how} {v:plays|play} in a low register.
  {how} {v:stays|stay} low.
  The notes on {how} are low and deep.

fact:rapid
  {how} {v:runs|run} through quick notes.
  {how} {v:fires|fire} off notes at speed.
  {how} {v:is|are} played fast and nimbly.
  {how} {v:plays|play} rapid notes.
  The notes on {how} come in quick succession.
  {how} {v:plays|play} fast runs.

fact:slow notes
  {how} {v:plays|play} slow, spaced-out notes.
  The notes on {how} come slowly.

alone
  {solo} {v:is|are} the only instrument.
  Unaccompanied, {solo} {v:plays|play} on.
  All of it is played on {solo}.
  {solo} {v:plays|play} alone.
  {solo} {v:plays|play} unaccompanied.
  It is a solo for {solo}.
  Nothing but {solo} is heard.
  Only {solo} can be heard.
  It is played by {solo} on {v:its|their} own.

solo_on
  for solo {solo_mod}
  for {solo} alone
  played by {solo} alone
  on nothing but {solo}

events
  It starts with {first}, then {enters} {v:comes|come} in.
  It starts with {first} before {enters} {v:enters|enter}.
  It begins with {first}; {enters} {v:joins|join} in later.
  At first we hear {first}, then {enters} {v:joins|join} in.
  The clip opens with {first} and then {enters} {v:enters|enter}.
  After a while {enters} {v:comes|come} in.
  {enters} {v:enters|enter} {when}.
  {enters} {v:joins|join} in {when}.
  {leaves} {v:drops|drop} out {when_left}.
  {leaves} {v:stops|stop} playing {when_left}.
  {fill}

fact:fill
  There is a drum fill {when_fill}.
  A drum fill comes {when_fill}.
  The drummer plays a fill {when_fill}.
  A fill on the drums breaks up the beat {when_fill}.
  One hears a drum fill {when_fill}.

fact:roll
  The drums roll {when_fill}.
  A roll on the drums raises the tension {when_fill}.
  There is a drum roll {when_fill}.
  A drum roll is heard {when_fill}.
  The drummer plays a roll {when_fill}.

fact:crash
  There are splashy cymbal crashes.
  A cymbal is struck hard.
  Cymbal crashes accent the beginning of phrases.
  A cymbal crash is heard.
  There is a cymbal crash.
  A crash cymbal marks the accents.
  Cymbals crash.
  One hears a crash cymbal.

mood
  The vibe is {mood} and {mood}.
  It gives off a(n) {mood} vibe.
  It puts the listener in a(n) {mood} frame of mind.
  It conveys a(n) {mood} feeling.
  The character of the music is {mood}.
  Emotionally, it is {mood} and {mood}.
  It is {mood}, {mood} and {mood}.
  The feeling is {mood}.
  The ambience is {mood} and {mood}.
  It radiates a(n) {mood} energy.
  Everything about it is {mood}.
  It evokes a(n) {mood} mood.
  It strikes a(n) {mood} tone.
  A(n) {mood} spirit runs through the music.
  The tone is {mood}, bordering on {mood}.
  It sounds {mood} and {mood}.
  The mood is {mood}.
  The atmosphere is {mood}.
  It feels {mood} and {mood}.
  The overall feel is {mood}.
  The music is {mood}, {mood} and {mood}.
  It has a(n) {mood} feel.
  There is a(n) {mood} atmosphere.
  It creates a(n) {mood} mood.
  The mood is {mood} and a little {mood}.
  The result is {mood}.
  It all comes across as {mood}.
  There is something {mood} about it.

use
  This piece could be playing in the background of {use}.
  It could easily score {use}.
  Picture {use} and you have the setting.
  You might hear this in {use}.
  It would make a fitting backdrop for {use}.
  It seems made for {use}.
  Ideal for {use}.
  It would not be out of place in {use}.
  Think of {use}.
  One can picture {use}.
  The right setting would be {use}.
  It conjures up {use}.
  Suitable for {use}.
  It would suit {use}.
  It could be used for {use}.
  This would go well with {use}.
  It would fit {use}.
  It would work well as music for {use}.
  It could be the soundtrack for {use}.
  One could imagine it in the background of {use}.
  Good music for {use}.
  Perfect for {use}.
  It brings to mind {use}.
  It makes one think of {use}.
  This music is meant for {use}.
  It might accompany {use}.

asking
  Play me something {mood} with {names}.
  I need {mood}, {speed} music for {use}.
  Make a(n) {mood} {thing} with {names}, good for {use}.
  A theme for {use} with {lead} in the lead.
  We need a(n) {mood} {thing} for {use}. It should be {speed} and have {part}.
  The soundtrack of {use}: {parts}.
  Write a(n) {mood} {thing} in {key} with {names}.
  {mood} background music with {names}, {bpm}.
  Music for {use}: {mood}, {speed}, with {names}.
  The main theme for {use}. It is {speed} and {mood}, with {part}.
  A soundtrack for {use}, {mood} and {speed}.
  {mood} music for {use}, with {names}.
  Background music for {use}. It is {mood} and {mood}, with {part} and {part}.
  I am looking for {mood} music with {names}, something for {use}.
  Something {mood} and {speed} with {names}.
  Something {mood} for {use}.
  Give me {mood} {stylemass} with {lead}.
  {stylemass} for {use}, {bpm}.
  A(n) {speed}, {mood} {thing} for {use}, featuring {names}.
  The music for {use}: {parts}.

phrase
  {mood} and {mood} {stylemass}
  {lead_mod} melody, {arpeggio} arpeggios
  {stylemass}, {mood}, {bpm}
  {mood} {stylemass} for {use}
  {speed} {thing} with {parts}
  {names}, {speed}
  {bass} under {lead}
  {lead} with {backing}
  slow-burning {stylemass}{check_slow}
  {mood} {instrumental} music
  solo {solo_mod}, {mood}
  {mood} {stylemass}
  {speed} {stylemass}
  {mood} {stylemass} with {names}
  {stylemass} with {lead}
  a(n) {mood} {thing} {played_on}
  a(n) {speed} {thing} {played_on}
  a(n) {mood}, {speed} {thing}
  {names}, {mood}
  {part}, {part}
  {part} with {part}
  {parts}
  {mood} {lead_mod} melody
  {lead_mod} melody over {backing}
  {lead} over {drums}
  {lead} and {bass}
  {stylemass} at {bpm}
  {stylemass}, {speed}, {key}
  {stylemass} in {key}
  {mood} music for {use}
  {mood} {thing} in {metre}
  {riff_mod} riff over {drums}
  {solo_mod} solo
  {thing} without drums{check_no_drums}
  {instrumental} {stylemass}
  {names}
  a(n) {mood} {thing} for {use}

sentence
  {mood} {stylemass} with {part} and {part}.
  The melody is on {lead}, over {backing}.
  A(n) {mood} {thing}, driven by {drums} and {bass}.
  {stylemass}, {mood} and {mood}, for {use}.
  {lead} and {backing} make a(n) {mood} {thing}.
  This is what {use} might sound like: {mood} {stylemass}.
  A(n) {riff_mod} riff drives this {mood} {thing}.
  The {thing} moves at {bpm} and is led by {lead}.
  In {key}: a(n) {mood} {thing} with {names}.
  Without any drums, {names} {v:plays|play} a(n) {mood} {thing}{check_no_drums}.
  {mood}, {mood} and {speed}: {stylemass} with {names}.
  A(n) {mood} {thing} in {metre} time {played_on}.
  It is a(n) {speed} {thing} with {parts}.
  You hear {band} in this {mood} {thing}.
  A(n) {mood} {thing} with {parts}.
  A(n) {speed} {thing} with {part} and {part}.
  {lead} {v:plays|play} a(n) {mood} melody over {backing}.
  {lead} {v:plays|play} over {drums} and {bass}.
  {band} play a(n) {mood} {thing}.
  A(n) {mood} {thing} at {bpm}, {played_on}.
  A(n) {mood} {thing} in {key} {played_on}.
  This {mood} {thing} features {parts}.
  The {thing} features {parts}.
  {speed} {stylemass} with {part}, {part} and {part}.
  A(n) {thing} in {key} at {bpm} with {names}.
  A(n) {mood} {lead_mod} melody is accompanied by {backing}.
  A(n) {lead_mod} melody over {backing} and {bass}.
  {part} over {drums}, {mood} and {mood}.
  {solo} {v:plays|play} a(n) {mood} {thing}.
  It starts with {first}, then {enters} {v:joins|join} in, and it all sounds {mood}.
  A(n) {mood} {thing} that would suit {use}.
  {parts}, all of it {mood}.
  A(n) {instrumental} {thing} with {names}, {speed} and {mood}.
  {stylemass} in {metre} with {names}.
  A(n) {mood} {thing}, {speed_noun} in tempo and {mode} in key.

opening of no style
  This is a(n) {speed} {thing} {played_on}.
  A(n) {speed} {thing} {played_on}.
  Here is a(n) {thing} {played_on}.
  A(n) {instrumental} {thing} {played_on}.
  We hear {band}.
  We hear a(n) {thing} {played_on}.
  The song is {speed} with {names}.
  This clip features {band}.
  The recording holds a(n) {thing} {played_on}.
  {band} perform a(n) {thing}.
  {band} play together in this {thing}.
  {band} play a(n) {speed} {thing}.
  {lead} {v:opens|open} up a(n) {thing}.
  The {thing} is {speed}, at {bpm}.
  A(n) {thing} at {bpm} {played_on}.
  A(n) {thing} in {key}, {played_on}.
  This audio contains {band}.
  What we hear is a(n) {thing} {played_on}.
  The music is {instrumental} and {speed}.
  A(n) {thing} without drums, {played_on}{check_no_drums}.
  {solo} {v:plays|play} by {v:itself|themselves}.
  Listen to {band} in this {thing}.
  The {thing} features {parts}.

sentence of no style
  A(n) {thing} with {parts}.
  This {thing} features {parts}.
  A(n) {speed} {thing} with {part} and {part}.
  The melody is on {lead}, over {backing}.
  {band} play a(n) {speed} {thing}.
  {band} play together at {bpm}.
  A(n) {thing} at {bpm}, {played_on}.
  A(n) {thing} in {key} {played_on}.
  In {key}: a(n) {thing} with {names}.
  {lead} {v:plays|play} over {drums} and {bass}.
  {bass} and {drums} lay the ground for {names}.
  The music is {speed} and has {parts}.
  The {thing} moves at {bpm} and has {names}.
  Without any drums, {names} {v:plays|play} a(n) {thing}{check_no_drums}.
  It starts with {first}, then {enters} {v:joins|join} in.
  {solo} {v:plays|play} alone in this {thing}.
  A(n) {instrumental} {thing} with {names}, {speed} in pace.
  You hear {band} in this {thing}.
  A(n) {thing} {played_on}, {speed_noun} in tempo and {mode} in key.
  {parts} over {drums}.
  {names} can be heard in this {thing}.

asking of no style
  Play me something {speed} with {names}.
  I need a(n) {speed} {thing} with {names}.
  Make a(n) {thing} with {names}.
  Write a(n) {thing} in {key} with {names}.
  We need a(n) {thing} with {part}. It should be {speed}.
  Something {speed} with {names}.
  Background music with {names}, {bpm}.
  I am looking for music with {names}.
  Give me a(n) {thing} with {parts}.
  {instrumental} music with {names}, please.

phrase of no style
  {names}
  {names}, {speed}
  {names}, {bpm}
  {names} in {key}
  {parts}
  {part} with {part}
  {part}, {part}
  {bass} under {lead}
  {lead} with {backing}
  {lead} over {drums}
  {drums} and {bass} under {names}
  a(n) {speed} {thing} {played_on}
  a(n) {thing} {played_on}
  {speed} {instrumental} music
  {instrumental} music with {names}
  {solo_mod} solo
  solo {solo_mod}, {speed}
  {thing} without drums{check_no_drums}
  {speed} {thing} with {parts}
  music at {bpm} with {names}

melody_part
  {x} melody lines
  a tuneful {x}
  {x} phrases
  the melody of {ax}
  a(n) {x} melody
  a lead {x}
  a(n) {x} lead
  a tune on {ax}
  a melody on {ax}

countermelody_part
  a(n) {x} line beside the melody
  harmony lines on {ax}
  a(n) {x} countermelody
  a second voice on {ax}
  counterpoint on {ax}

riff_part
  a repeated figure on {ax}
  {x} licks
  a(n) {x} riff
  a riff on {ax}

chords_part
  {x} chording
  chordal {x}
  a(n) {x} chord progression
  chord work on {ax}
  {x} chords
  chords on {ax}
  {x} accompaniment

arpeggio_part
  rippling {x} figures
  a rolling {x} pattern
  {x} arpeggios
  arpeggiated {x}
  arpeggios on {ax}
  broken chords on {ax}

pad_part
  a carpet of {x}
  a drawn-out {x} backdrop
  sustained {x} chords
  a bed of {x}
  long notes on {ax}

bass_part
  low notes on {ax}
  a bassline on {ax}
  {x} notes
  a(n) {x} line
  {ax}
  a bass line on {ax}

drums_part
  {ax}
  a beat on {ax}
  a(n) {x} beat

percussion_part
  {x} hits
  a(n) {x} rhythm
  {ax}
  {x} accents

effects_part
  {x} effects
  {ax} for effect

unknown_part
  {ax}
  a(n) {x} part
  {x} notes
  the sound of {ax}
  notes on {ax}

melody_act
  {ax} taking the lead
  {ax} carrying the tune
  {ax} playing the main theme
  a(n) {x} playing the melody
  {ax} on lead

countermelody_act
  {ax} weaving around the tune
  {ax} replying to the melody
  {ax} answering the melody

riff_act
  {ax} hammering out a riff
  {ax} repeating a figure
  {ax} playing a riff

chords_act
  {ax} filling in the chords
  {ax} providing the harmony
  {ax} backing it up with chords
  {ax} playing chords
  {ax} comping

arpeggio_act
  {ax} arpeggiating the chords
  {ax} playing broken chords
  {ax} playing arpeggios

pad_act
  {ax} sustaining the harmony
  {ax} spreading out underneath
  {ax} holding long chords
  {ax} in the background

bass_act
  {ax} supporting from below
  {ax} laying the foundation
  {ax} holding the low end
  {ax} underneath
  {ax} playing the bass line

drums_act
  {ax} playing the beat
  {ax} in the background
  {ax} driving the rhythm
  {ax} holding the groove
  {ax} keeping the beat

percussion_act
  {ax} in the rhythm section
  {ax} on top of the beat
  {ax} adding to the rhythm

when early
  at the beginning
  in the first seconds
  early on
  near the beginning
  right at the start

when middle
  half of the way in
  at the midpoint
  halfway through
  in the middle
  around the middle

when late
  in the last seconds
  just before the end
  towards the end
  near the end
  late in the clip

tag
  no drums{check_no_drums}
  {instrumental}
  {speed_noun} tempo
  {bass_mod} line
  {arpeggio} arpeggios
  {riff_mod} riff
  {kit}
  {metre}
  {speed}

key_tag
  in {key}
  key of {key}
  {mode} tonality
  {key}
  {mode} key
  {mode}
"""


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return {name: tuple(way.strip() for way in ways) for name, *ways in blocks}


RULES = _parse(TEXT)
