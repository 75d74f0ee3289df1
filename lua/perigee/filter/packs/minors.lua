-- Sexual exploitation of minors, grooming and trafficking; how a pack is written: common.lua here.
-- Only forms of request and offer stand here, and they are meant to be met widely: block, and look at what was flagged.
return {
   category = "minors",
   title = "child safety: sexual exploitation, grooming, trafficking of children",
   parts = {
      child = [[(?:child(?:ren)?|kids?|minors?|underage(?:d)? (?:girls?|boys?|teens?|character|person)?|pre-?teens?|toddlers?|school ?(?:girls?|boys?|children)|little (?:girls?|boys?)|young (?:girls?|boys?)]]
         .. [[|teen(?:ager)?s?|lolis?|(?:[5-9]|1[0-7])[- ]year[- ]olds?|(?:ten|eleven|twelve|thirteen|fourteen|fifteen)[- ]year[- ]olds?)]],
      sexual = [[(?:sex(?:ual|ually|y)?|porn\w*|nudes?|naked|erotic\w*|explicit|hentai|undress\w*|intimate)]],
      zchild = [[(?:儿童|未成年(?:人|少女|少年)?|幼女|幼童|小学生|初中生|小女孩|小男孩|女童|男童|萝莉|正太|中学生|十[一二三四五]岁|小孩子?|婴儿|婴幼儿)]],
      zsexual = [[(?:色情|裸照|裸体|裸聊|性爱|性关系|做爱|诱奸|猥亵|援交|约炮|黄片|床戏|私密照|淫秽|强奸)]],
   },
   en = {
      words = { "child porn", "child pornography", "kiddie porn", "jailbait", "preteen videos", "loli hentai", "cp links", "trading cp", "csam links" },
      regex = {
         [[<ask><gap>\b<sexual>\b[^.!?\n]{0,30}\b<child>\b(?! (?:education|development|safety))]],
         [[<ask><gap>\b<child>\b[^.!?\n]{0,24}\b<sexual>\b(?! (?:education|abuse|health))]],
         [[\b(?:have|having|had) sex with (?:a |an |my |the )?(?:\w+ )?<child>\b<after>]],
         [[\b(?:groom|lure|entice|seduce)(?:ing)? (?:a |an |the |some |my )?(?:\w+ )?<child>\b<after>]],
         [[<ask><gap>\b(?:groom|lure|seduce|entice)(?:ing)?\b<near>\b<child>\b]],
         [[\b(?:looking for|meet|find(?:ing)?|seeking)\b<near>\bunder ?age\b<near>\b(?:girls?|boys?|teens?)\b<after>]],
         [[\b(?:attracted to|in love with) (?:little |young )?(?:children|kids|minors|girls under|boys under)\b]],
         [[\bconvince<near>\b<child>\b<gap>\b(?:secret|alone|photos?|meet)\b]],
         [[<trade><near>\b(?:videos?|photos?|pics?|pictures?|collections?) of (?:\w+ )?(?:preteens?|kids|children|minors|little (?:girls|boys))\b]],
         [[<ask><gap>\b(?:buy|sell|purchase|traffic)(?:ing)? (?:a |an |some )?(?:\w+ )?(?:child|children|babies|baby|kids?)\b(?! (?:clothes|seat|book|toy|food|shoe|car|bike|bed|monitor|gift|a\b|an\b|some\b))]],
      },
      allow = { regex = { "<allowed>",
         [[\b(?:signs that|keep (?:kids|children) safe|sex education|parents (?:can|should)|protect\w*|prevent\w*)\b[^.!?\n]{0,120}]] } },
   },
   zh = {
      words = { "儿童色情资源", "儿童色情片", "恋童癖交流", "幼女视频", "萝莉资源", "正太资源", "正太图集", "幼女资源", "未成年援交", "出售婴儿", "贩卖婴儿群" },
      regex = {
         [[(?:<zask>|下载|求|出售|分享|收购)<zgap><zchild>[^。!?\n]{0,12}(?:<zsexual>)(?!.{0,3}(?:罪|案))<zafter>]],
         [[<zask><zgap><zsexual>[^。!?\n]{0,8}<zchild>(?!.{0,3}(?:罪|案))<zafter>]],
         [[(?:和|跟|与)[^。!?\n]{0,3}<zchild>[^。!?\n]{0,5}(?:发生(?:性)?关系|做爱|上床|开房|裸聊)<zafter>]],
         [[(?:骗|诱骗|诱拐|拐骗|引诱|哄)[^。!?\n]{0,5}<zchild>[^。!?\n]{0,14}(?:照|见面|酒店|家长|家里|视频|开房|出来)(?!.{0,6}(?:怎么防|警惕|防范))<zafter>]],
         [[把<znear><zchild>[^。!?\n]{0,3}(?:骗|带|哄)(?:到|去|进)]],
         [[(?:找|约)[^。!?\n]{0,8}(?:岁以下|未成年|小学|初中)[^。!?\n]{0,6}(?:女孩|男孩|女生|男生|妹)[^。!?\n]{0,6}(?:约|高价|开房|援|见)]],
         [[(?:萝莉|正太|幼女|幼童|未成年)[^。!?\n]{0,8}(?:资源|合集|图集|种子|懂的来|打包|福利|视频)(?!.{0,3}(?:裙|鞋))<zafter>]],
         [[恋童(?:癖|者)?[^。!?\n]{0,4}(?:群|圈|交流|论坛)]],
         [[<zask><zgap>(?:拐卖|贩卖|拐骗|买卖|买)[^。!?\n]{0,4}(?:儿童|小孩|婴儿|孩子|女婴|男婴)(?!.{0,2}(?:罪|的|衣|玩))<zafter>]],
         [[<ztrade>[^。!?\n]{0,4}(?:婴儿|男婴|女婴|孩子)(?!.{0,2}(?:车|床|的|衣|奶|用品|推车))[^。!?\n]{0,12}(?:万|出生证|联系|价)]],
         [[(?:收购|求购|出售|购买)[^。!?\n]{0,4}(?:儿童|小孩|幼女|女童)[^。!?\n]{0,4}(?:照片|视频|裸)<zafter>]],
      },
      allow = { regex = { "<zallowed>", [[(?:防范|家长如何|预防|保护|严厉打击|性教育)[^。!?\n]{0,40}]] } },
   },
}
