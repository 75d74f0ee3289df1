-- Violence and weapons; how a pack is written: common.lua here.
return {
   category = "violence",
   title = "killing, hurting and abducting people; trade in weapons and making them",
   parts = {
      person = [[(?:someone|somebody|people|persons?|man|men|woman|women|him|her|them|wife|husband|boss|neighbou?rs?|roommate|classmates?]]
         .. [[|coworkers?|colleagues?|partner|ex|girlfriend|boyfriend|father|mother|parents|brother|sister|family|teacher|teachers|students]]
         .. [[|kids|child|children|reporter|journalist|mayor|president|politician|enemy|enemies|friend|guy|girl|boy|daughter|son|cop|cops)]],
      kill = [[(?:murder|kill|assassinat|strangl|stab|behead|poison|tortur|kidnap|abduct|suffocat|smother|beat up|decapitat|maim)]],
      gun = [[(?:guns?|handguns?|pistols?|rifles?|firearms?|shotguns?|ammo|ammunition|silencers?|suppressors?|ghost guns?|ak-?47s?|ar-?15s?|revolvers?)]],
      zperson = [[(?:人|死者|邻居|老板|室友|同学|同事|老师|前夫|前妻|老公|老婆|丈夫|妻子|父母|爸|妈|他|她|你|仇家|富商|市长|女儿|儿子|孩子|对方|仇人|领导)]],
      zgun = [[(?:枪支|手枪|步枪|猎枪|气枪|仿真枪|枪械|真枪|土枪|子弹|弹药|军火|弩|管制刀具|军刺|三棱刀|消音器|火铳|射钉枪|铅弹)]],
   },
   en = {
      words = { "hitman for hire", "contract killer for hire", "murder for hire", "ghost gun kit", "auto sear", "glock switch" },
      regex = {
         [[<ask><gap>\b<kill>\w*<near>\b<person>\b(?! with (?:kindness|laughter))]],
         [[\b(?:hire|hiring|find|contact|pay|rent)<near>\b(?:hit ?man|hit ?men|assassins?|contract killers?|killer|someone to (?:kill|beat|hurt|murder))\b]],
         [[\b(?:contract killing|someone killed)\b<near>\b(?:set|price|cost|arrange|order|offer)\w*]],
         [[\bget(?:ting)? away with (?:a )?(?:murder|killing)\b]],
         [[\b(?:dispos\w+ of|get rid of|hide|dissolve|bury)\b[^.!?\n]{0,10}\b(?:dead )?(?:body|corpse)\b<near>\b(?:police|cops|find|found|caught|trace)]],
         [[\bi(?:'m| am) (?:going to|gonna|about to)<near>\b(?:shoot up|shoot (?:everyone|them|him|her|you)|kill (?:everyone|them|him|her)|stab|murder|slaughter)\b]],
         [[\bi(?:'ll| will)\b<near>\b(?:shoot up|massacre|slaughter|murder)\b]],
         [[\b(?:shoot(?:ing)? up) (?:the|a|my|this|that) (?:school|church|mosque|mall|office|synagogue|concert)\b]],
         [[\blet(?:'s| us)<near>\b(?:beat|stab|kick|stone|shoot)\b[^.!?\n]{0,24}\bto death\b]],
         [[<ask><gap>\b(?:mak|build|print|assembl|manufactur|mill|convert)\w*<gap>\b<gun>\b(?! safe| rack| case| range)]],
         [[\b(?:3d[- ]print\w*|homemade|home-?built|diy)<near>\b<gun>\b<after>]],
         [[<trade><near>\b(?:illegal|unregistered|untraceable|unlicensed|black[- ]market|stolen|no serial)<near>\b<gun>\b]],
         [[\b(?:untraceable|unregistered|unlicensed)<near>\b<gun>\b<after>]],
         [[<trade><near>\b<gun>\b<gap>\b(?:illegal|dark ?web|without (?:a )?(?:background|licen[cs]e|permit|paper|check)|no (?:licen|permit|background|serial|question|id\b))]],
         [[\bconvert\w*<gap>\b(?:full(?:y)?[- ]auto)]],
      },
      allow = { regex = { "<allowed>" } },
   },
   zh = {
      words = { "买凶杀人", "雇凶杀人", "职业杀手接单", "断手断脚", "枪支弹药出售", "气枪配件", "杀人不留痕迹" },
      regex = {
         [[<zask><zgap>(?:杀死|杀掉|杀害|杀了|杀人|谋杀|弄死|毒死|勒死|掐死|下毒|投毒|毒杀|绑架|砍死|砍人|捅死|暗杀|除掉)(?!.{0,3}(?:游戏|时间|病毒|蟑螂|进程|细菌|害虫|剧本))]],
         [[(?:雇|找|请)<znear>(?:杀手|凶手|打手|人(?:杀|弄死|教训|打断))<zafter>]],
         [[(?:杀|砍|弄死)(?:了|死|掉)?人<zgap>(?:不被|不会|逃|处理|尸体)]],
         [[(?:处理|藏|销毁|毁掉|抛)(?:掉|了)?尸(?:体|块)?<zgap>(?:不被|不会|查|发现)]],
         [[我<znear>(?:要|去|就|一定)<zgap>(?:砍人|杀人|杀光|砍死|捅死|杀了他|杀了她|弄死他|血洗|屠杀)]],
         [[(?:杀|砍)(?:了|光|死)?(?:他|她|你|他们|你们)?全家]],
         [[<zask><zgap>(?:制|造|做|改|组装|自制|打印)[^。!?\n]{0,5}<zgun>]],
         [[(?:自制|自己做|改装|组装)<znear><zgun><zafter>]],
         [[<ztrade><znear><zgun><zafter>]],
         [[<zgun>[^。!?\n]{0,14}<ztrade>(?!.{0,4}(?:罪|违法))<zafter>]],
         [[(?:买|弄)[^。!?\n]{0,4}(?:枪|子弹|军火)(?:支|械|弹)?[^。!?\n]{0,8}(?:急需|价格|联系|黑市|暗网)]],
         [[买凶|(?:讨债|要账)[^。!?\n]{0,8}(?:断|打|砍|卸)]],
      },
      allow = { words = { "水枪", "玩具枪" }, regex = { "<zallowed>" } },
   },
}
