-- Suicide, self-harm and eating disorders; how a pack is written: common.lua here.
-- An operator may want `flag`, or a function that answers with a crisis line, rather than `block` for this one.
return {
   category = "selfharm",
   title = "suicide, self-harm and eating disorders: ways, encouragement, announcements",
   parts = {
      die = [[(?:kill myself|end (?:my|it all|my own) ?(?:life)?|take my (?:own )?life|commit(?:ting)? suicide|hang myself|hang yourself|kill yourself|take your own life]]
         .. [[|slit(?:ting)? (?:my|your) wrists?|overdos(?:e|ing)(?: on)?|shoot myself|drown myself|starve (?:myself|yourself)|cut(?:ting)? myself|hurt(?:ing)? myself|harm(?:ing)? myself|die by suicide)]],
      zdie = [[(?:自杀|自尽|轻生|寻死|上吊|割腕|跳楼(?!价)|烧炭|吞药|服毒|自残|自伤|结束(?:自己的?)?生命|了结自己|绝食|饿死自己|弄死自己|伤害自己)]],
   },
   en = {
      words = { "suicide pact", "suicide pact partner", "pro-ana", "pro ana", "thinspo", "kys now", "painless suicide method" },
      regex = {
         [[<ask><gap>\b<die>\b]],
         [[\b(?:most )?(?:painless|quick|quickest|easiest|best|fastest|reliable|effective)\b<gap>\b(?:to (?:die|kill myself|end my life)|suicide)\b(?! prevention)]],
         [[\bsuicide (?:methods?|techniques?|note (?:to|for|from me)|plan)\b<after>]],
         [[\b(?:plan|planning|help me(?: with)?) my (?:own )?suicide\b]],
         [[\bi(?:'m| am)? ?(?:want|going|wanna|plan|have decided|will)(?:ning)?(?: to)? (?:die|kill myself|end (?:my life|it all)|jump off|hang myself|commit suicide|overdose)\b(?! (?:laughing|of (?:laughter|embarrassment)))]],
         [[\bi(?:'m| am) going to jump (?:off|from)\b<gap>\b(?:bridge|roof|building|life)\b]],
         [[\b(?:you should|just|go (?:and|ahead and)|please|why don't you)\b<near>\b(?:kill|hang|shoot|cut) yourself\b]],
         [[\b(?:pills|paracetamol|tylenol|sleeping pills|insulin|medication)\b<gap>\b(?:to die|i want to die|i die|kill me|end my life|overdose on)\b]],
         [[\blethal dose\b<gap>\b(?:want to die|to die|for me|kill myself)\b]],
         [[\b(?:dying|death|suicide) (?:is|would be) the (?:best|only) (?:solution|way|option)\b]],
         [[\b(?:tips|ways?|how)\b<near>\b(?:starve|purge|self[- ]harm|cut)\b<gap>\b(?:hide|hiding|without|notic\w+|secret)\b]],
         [[\blife (?:isn't|is not) worth living\b]],
      },
      allow = { regex = { "<allowed>",
         [[\b(?:prevent\w*|support|help a|crisis|hotline|therap\w+|if you are thinking|reach out|talks? about)\b[^.!?\n]{0,120}]] } },
   },
   zh = {
      words = { "相约自杀", "约死群", "自杀群", "无痛自杀", "自杀药", "自杀教程", "自杀方法", "去死吧", "怎么不去死", "不想活了", "死得快的方法", "跳楼就解脱" },
      regex = {
         [[<zask><zgap><zdie>(?!式|干预|倾向|率|防)]],
         [[<zdie>[^。!?\n]{0,8}(?:怎么|如何|怎样|哪里|哪种|需要|最简单|最快|步骤|方法|教程|才够|准备什么|不痛|没有痛苦)(?!.{0,8}(?:急救|安慰|预防|干预|劝))<zafter>]],
         [[吃(?:多少|几片|几颗|几瓶)[^。!?\n]{0,6}(?:会死|能死|致死|才死)]],
         [[(?:安眠药|农药|百草枯|药)[^。!?\n]{0,8}(?:多少|几片|怎么)[^。!?\n]{0,4}(?:会死|能死|致死)]],
         [[(?:写|留)[^。!?\n]{0,4}遗书[^。!?\n]{0,10}(?:今晚|就走|告别|离开|不想|结束)]],
         [[(?:我|今晚|今天|明天)[^。!?\n]{0,6}(?:想死|要死了?算了|就去死|去跳楼|就走了?[,，]?[^。]{0,4}遗书|结束(?:自己的?)?生命|要自杀|想自杀|跳下去)]],
         [[(?:你|活着)[^。!?\n]{0,8}(?:没意思|没意义|多余)[^。!?\n]{0,8}(?:死|跳)]],
         [[(?:催吐|绝食|断食)[^。!?\n]{0,12}(?:教程|家人|发现|教你|瞒)]],
         [[活着[^。!?\n]{0,4}(?:没意思|没意义|太累)[^。!?\n]{0,10}(?:死|结束|解脱)]],
      },
      allow = { words = { "跳楼价" }, regex = { "<zallowed>",
         [[(?:预防|干预|安慰|劝|救助|心理|热线|朋友说|如果你|孩子说|上吊桥)[^。!?\n]{0,40}]] } },
   },
}
