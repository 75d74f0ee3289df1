-- luacheck: no max line length
-- Hatred of groups and discrimination; how a pack is written: common.lua here.
-- No list of slurs comes with it: what is said about a group counts, and those who want a list add words.
return {
   category = "hate",
   title = "hatred, dehumanising, discrimination by origin, faith, sex, orientation, disability, region",
   parts = {
      group = [[(?:muslims?|jews?|jewish people|christians?|hindus?|black(?:s| people| men| women)|white (?:people|race)|whites|asians?|chinese people|arabs?|africans?|mexicans?|latinos?]]
         .. [[|indians|immigrants?|migrants?|refugees?|foreigners?|gays?|gay people|lesbians?|homosexuals?|trans(?:gender)? people|transgenders?|queers?|women|females|girls|disabled people]]
         .. [[|the disabled|cripples|gyps(?:y|ies)|roma people|minorities|infidels|zionists|natives|poor people|old people)]],
      low = [[(?:inferior|subhuman|vermin|filth(?:y)?|parasites?|cockroach(?:es)?|animals|savages?|disgusting|degenerates?|mentally ill|freaks?|scum|trash|garbage|worthless|stupid|lazy|criminals?]]
         .. [[|rapists?|terrorists|a burden|less than (?:men|us|human|whites?)|worth less|a plague|a disease|lesser|thieves|dirty|too (?:stupid|emotional|weak|dumb))]],
      out = [[(?:exterminat\w+|eliminat\w+|wiped out|gassed|put to death|thrown out|kicked out|deported|killed|shot|lynched|sterili[sz]ed|don't deserve to live|do not deserve to live|die out|get rid of|hanged|eradicat\w+)]],
      zgroup = [[(?:黑人|白人|白种人|亚洲人|黄种人|犹太人|穆斯林|回民|日本人|韩国人|印度人|非洲人|外国人|女人|女性|女的|男人|同性恋|跨性别者?|残疾人|残障人士|农村人|乡下人|外地人|[某河东山]南?[省东]?人]]
         .. [[|少数民族|移民|难民|艾滋病人|穷人|老年人|胖子|上海人|河南人|东北人)]],
      zlow = [[(?:低等|劣等|低贱|下贱|畜生|垃圾|小偷|骗子|蝗虫|寄生虫|变态|累赘|恐怖分子|干不成事|天生不如|不如男人|没用|素质就是低|素质低|智商低|猪狗|蟑螂|人渣|败类|懒)]],
      zout = [[(?:灭绝|消灭|赶出去|全部赶走|赶走|滚出|滚回|去死|该死|等死|淘汰|不配|清除|杀光|绝种|活该)]],
   },
   en = {
      words = { "race traitor", "white genocide is real", "gas the jews", "white power", "subhuman filth", "jewish conspiracy to", "go back to your country" },
      regex = {
         [[<ask><gap>\b(?:hate speech|racis[tm]|sexist|dehumani[sz]\w+|racial (?:tensions|hatred)|hatred)\b(?! (?:law|detection|filter|polic|research|crime|in (?:history|the)|persists))]],
         [[\b(?:promot|spread|incit|encourag)\w*<near>\b(?:hate speech|racism|hatred|discrimination|racial tensions)\b<after>]],
         [[\b(?:why|reasons why|that|saying)\b<near>\b<group>\b<near>\b(?:should(?:n\'t| not| never)|better not|not be (?:allowed|admitted|given|shown)|be denied|have equal rights|earn less)]],
         [[\bwhy should\b<near>\b(?:<group>(?! pears)|\w+ people)\b<near>\b(?:not (?:be|have|get)|be denied|go through extra)]],
         [[\b(?:dogs|rats|pigs|animals) are (?:cleaner|better|smarter|nicer) than\b]],
         [[\bnever trust an? (?:jew|muslim|black|gypsy|arab|woman|foreigner|immigrant)\b|\bthey all (?:cheat|steal|lie)\b<after>]],
         [[\b<group>\b (?:can\'t|cannot|can not) (?:do|think|drive|lead|be trusted|understand)\b]],
         [[\b(?:send|ship) (?:every|all|them|those|these)\b<near>\b(?:african|immigrant|muslim|mexican|refugee|foreigner|last)\w*<gap>\bback\b]],
         [[\bwhy (?:is|are|was) (?:it best|it a good idea|it right)?<near>\b<group>\b<near>\b(?:weaker|inferior|worse|dumber)\b]],
         [[\b(?:took away|take away|strip)\b<near>\b(?:black|women|gay|jew|muslim)\w*(?: people)?\'?s?\'? (?:voting )?rights\b]],
         [[\b(?:all |these |those |most )?<group>\b (?:are|is|were|will always be|can only be)\b<near>\b<low>\b(?<!not stupid)<after>]],
         [[\b<group>\b (?:should|must|need to|ought to|have to|deserve to)\b(?! (?:not|never) be)<near>\b(?:<out>|die|stay in the kitchen|not (?:vote|work|live here))\b]],
         [[\b(?:exterminate|eliminate|gas|kick out|get rid of|deport all|wipe out|keep)\b<near>\b<group>\b(?! (?:safe|informed|healthy|company))[^.!?\n]{0,16}?\b(?:out|in town|from our|now|all|neighbou?rhood|country|city)\b]],
         [[\b(?:exterminate|gas|eradicate|wipe out) (?:all (?:the |of the )?|the |these |those )?(?:them\b(?! from)|<group>\b)]],
         [[\bkick all (?:the |of the |these )?<group> out\b]],
         [[\b(?:they are|they're|are) (?:nothing but |all |just )?(?:subhuman\w*|vermin|rapists and animals|parasites)\b(?! in the)]],
         [[\b(?:why|that|prove|show|convince)\b<gap>\b<group>\b<near>\b(?:are|is|being)\b<near>\b<low>\b<after>]],
         [[\bshouldn't be allowed to\b<near>\b(?:rent|vote|work|live|marry|drive|own|enter)\b]],
         [[<group>\b<near>\b(?:belong in the kitchen|control (?:the|all) (?:banks|media|world)|too stupid to vote|run the world)]],
         [[\bwhite race is superior\b|\b(?:race|people) (?:is|are) superior to (?:every|all) other\b|\bsuperior race\b<after>|\b(?:an )?inferior (?:race|people|species)\b<after>]],
         [[\bholocaust\b<near>\b(?:never happened|is a (?:hoax|lie)|was a (?:hoax|lie)|hoax)\b]],
         [[\b(?:i hate|death to) (?:all |the |those |these )?<group>\b(?! who)]],
         [[\b(?:spread(?:ing)?|incit\w+|stir up) (?:hatred|hate|violence)\b<near>\b(?:against|of|towards?)\b<near>\b<group>\b<after>]],
         [[\b(?:jokes?|stories) (?:about|on) (?:why|how)\b<near>\b<group>\b]],
      },
      allow = { regex = { "<allowed>", [[\b(?:racism|prejudice|discriminat\w+|stereotypes?|apartheid|celebrate|underrepresented|were denied)\b[^.!?\n]{0,80}]] } },
   },
   zh = {
      words = { "煽动民族仇恨", "种族优越", "滚回你们老家", "劣等民族", "低等人种", "女子无才", "白种人优越", "民族败类都该死" },
      regex = {
         [[黑鬼|支那猪|小日本鬼子都|阿三都|棒子都|绿教徒|黑皮猪]],
         [[(?:论证|证明|说明|写)[^。!?\n]{0,8}(?:某个?民族|某些人|某地人|哪个民族)[^。!?\n]{0,4}(?:天生|都|就)[^。!?\n]{0,6}(?:偷|坏|懒|低|笨|骗)]],
         [[(?:娘炮|同性恋|跨性别)[^。!?\n]{0,8}(?:关起来|枪毙|消失|电击|抓起来)<zafter>]],
         [[(?:河南|东北|新疆|西藏|广东|上海|外地|农村)人?[^。!?\n]{0,3}(?:一律)?(?:不许|不准|禁止|不得)[^。!?\n]{0,4}(?:进|入|住|应聘)]],
         [[(?:难民|移民|外地人|外国人|黑人|他们)[^。!?\n]{0,4}(?:就是)?(?:一群|一帮)(?:蛀虫|畜生|蝗虫|野蛮人|强盗|垃圾|吸血鬼)]],
         [[女人(?:就该|就应该|天生就|只配)[^。!?\n]{0,6}(?:待在家|在家|做饭|生孩子|伺候)]],
         [[<zgroup>(?:都|全|全都|就|们都|们就|天生|真)?(?:是|很|就是|全是|都是)?[^。!?\n]{0,6}<zlow>(?!.{0,6}(?:是不对|的说法|的偏见|歧视))<zafter>]],
         [[<zgroup>[^。!?\n]{0,10}<zout>(?!.{0,6}(?:歧视|是不对))<zafter>]],
         [[(?:证明|说明|让大家相信|相信|解释)[^。!?\n]{0,6}<zgroup>[^。!?\n]{0,10}(?:低|劣|不如|优越|寄生|危险|肮脏)<zafter>]],
         [[(?:煽动|宣扬|散布|激起|挑起)[^。!?\n]{0,10}(?:仇恨|民族矛盾|种族主义|歧视|对立)(?!罪)<zafter>]],
         [[(?:侮辱|羞辱|嘲笑|辱骂|丑化)[^。!?\n]{0,4}(?:<zgroup>|民族|宗教|信徒)[^。!?\n]{0,4}(?:段子|笑话|话|文章)]],
         [[(?:只招|不招|不要|一律不要)[^。!?\n]{0,3}(?:男性|男的|女的|女性|河南人|东北人|外地人|某省人)[^。!?\n]{0,14}(?:别来|不要|干不|低|勿扰|素质)?(?=[^。!?\n]{0,12}(?:别来|干不|素质|勿扰|不要))]],
         [[(?:某省|某地|河南|东北|外省|农村)人?[^。!?\n]{0,6}(?:小偷|骗子|一律不要|垃圾|没素质)]],
         [[把<znear><zgroup>[^。!?\n]{0,4}(?:赶走|赶出|隔离|灭|杀光)]],
         [[比其他(?:人种|民族|种族)优越|(?:人种|民族|种族)(?:天生)?优越(?!感)<zafter>]],
      },
      allow = { words = { "垃圾分类" }, regex = { "<zallowed>", [[(?:反对|歧视|曾宣称|偏见|谬论|科学否定|除名)[^。!?\n]{0,40}]],
         [[殖民者[^。!?\n]{0,40}]] } },
   },
}
