-- Illegal drugs: making, getting, selling, hiding them; how a pack is written: common.lua here.
return {
   category = "drugs",
   title = "illegal drugs: making, trade, smuggling, drugging people",
   parts = {
      hard = [[(?:meth(?:amphetamine)?|crystal meth|cocaine|crack(?: cocaine)?|heroin|fentanyl|lsd|mdma|ecstasy|molly|ketamine|dmt|ghb|rohypnol|pcp|opium(?: poppies)?|carfentanil|bath salts|spice]]
         .. [[|magic mushrooms|shrooms|speed pills|amphetamines?|weed|marijuana|cannabis|oxycodone|oxycontin|xanax|adderall|codeine|date[- ]rape drugs?|illegal drugs|hard drugs|drugs)]],
      make = [[\b(?:cook|make|synthesi[sz]|produc|extract|manufactur|grow|cultivat|brew)\w*]],
      zhard = [[(?:冰毒|海洛因|可卡因|摇头丸|K粉|氯胺酮|大麻|罂粟|鸦片|芬太尼|麻古|毒品|迷幻药|LSD|致幻蘑菇|迷药|迷奸药|听话水|失忆水|催情药|GHB|依托咪酯|笑气|奶油气弹|上头电子烟|甲卡西酮|吗啡)]],
      znot = [[(?!的危害|哈鱼|布|成瘾|依赖|罪|检测|类药|注射液|知识|.{0,6}(?:副作用|挂什么科|手抄报))]],
   },
   en = {
      words = { "meth cookbook", "crystal meth recipe", "buy weed online", "buy cocaine online", "drug dealer wanted", "discreet shipping mdma", "plug with bars" },
      regex = {
         [[<ask><gap><make><gap>\b<hard>\b(?! (?:test|addict|abuse|treatment|withdraw|store|policy|awareness))]],
         [[<make><near>\b(?:crystal meth|meth|mdma|lsd|dmt|fentanyl|heroin|crack cocaine)\b<near>(?:guide|recipe|at home|steps|beginners|instructions)]],
         [[(?:<ask>|\b(?:need a dealer|dealer who sells|selling|i sell|sell))<near>\b(?:buy|sell\w*|get|order|find|score|purchase|pure|cheap)?<near>\b(?:cocaine|crack|heroin|meth|mdma|ecstasy|molly|lsd|fentanyl|ghb|weed|ketamine|crystal meth)\b(?! (?:test|addict|abuse|treatment|withdraw|killer|bed|whack|patch|overdose))]],
         [[\b(?:cocaine|heroin|meth|mdma|ecstasy|fentanyl|ketamine|lsd|weed|xanax|oxycodone|pills)\b<gap>\b(?:for sale|wholesale|discreet shipping|overnight delivery|bitcoin only|in stock|no prescription)\b<after>]],
         [[\b(?:xanax|oxycodone|oxycontin|adderall|fentanyl|opioids?|valium|codeine|tramadol)\b<gap>\b(?:without (?:a )?prescription|no prescription)\b<after>]],
         [[\bsmuggl\w+<near>\b(?:<hard>)\b<after>]],
         [[<ask><gap>\b(?:pass|beat|cheat|fake)\b<near>\bdrug (?:test|screen)\w*\b]],
         [[\b(?:shoot up|snort|smoke|inject|shooting up)\b (?:some )?(?:heroin|meth|crack|cocaine|ketamine|fentanyl)\b<after>]],
         [[\b(?:spike|spiking|put|slip)\b[^.!?\n]{0,28}?\bdrink\b<gap>\b(?:knock|with|unconscious|sleep|pass out|ghb|rohypnol|roofies?|drug)]],
         [[\b(?:drug|roofie|sedate) (?:her|him|a girl|someone)(?:'s)? (?:drink|secretly|without)]],
      },
      allow = { regex = { "<allowed>", [[\b(?:addiction|prescribed|anaesthetic|withdrawal|medical|treat\w*)\b[^.!?\n]{0,60}]] } },
   },
   zh = {
      words = { "飞行员进群", "飞叶子", "大麻叶子出售", "迷奸药", "听话水", "乖乖水", "失忆水", "奶油气弹", "上头电子烟", "依托咪酯烟油", "冰壶和冰", "LSD邮票", "猪肉自提",
         "邮票和蘑菇" },
      regex = {
         [[<zask><zgap>(?:制作|制造|合成|提炼|提取|种植|种|购买|买|卖|走私|贩卖|弄到|吸|吸食|注射|做)[^。!?\n]{0,10}<zhard><znot>]],
         [[<zask><zgap><zhard><znot>[^。!?\n]{0,6}(?:怎么|带过|藏|运|批发|配方|制作)]],
         [[<zhard>[^。!?\n]{0,4}(?:怎么|如何|怎样)(?:制作|制造|做|合成|提炼|种|买|吸)(?!.{0,4}手抄报)]],
         [[<ztrade>[^。!?\n]{0,6}<zhard><znot><zafter>]],
         [[<zhard><znot>[^。!?\n]{0,10}(?:货到付款|现货|优惠|送到家|闪送|私聊|出货|批发|验货|价格多少|飞机|暗网|到付|包邮)<zafter>]],
         [[(?:麻黄碱|麻黄素)[^。!?\n]{0,6}(?:提炼|提取|制|合成)[^。!?\n]{0,8}]],
         [[(?:吸毒|溜冰|吸食|吸大麻)[^。!?\n]{0,10}(?:躲过|逃过|避开|怎么过|瞒过)[^。!?\n]{0,6}(?:尿检|检查|检测|警察)]],
         [[溜冰[^。!?\n]{0,10}(?:冰壶|飞机|货|壶)]],
         [[(?:酒|饮料|水)[^。!?\n]{0,4}(?:里|中)?[^。!?\n]{0,3}(?:下药|下迷药|放迷药|下安眠药)<zafter>]],
         [[把毒品[^。!?\n]{0,6}(?:带过|藏|运|寄)]],
      },
      allow = { words = { "大麻哈鱼", "大麻布" }, regex = { "<zallowed>", [[(?:禁毒|戒毒|虎门|手抄报|临床|管制药品|副作用)[^。!?\n]{0,30}]] } },
   },
}
