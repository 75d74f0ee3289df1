-- luacheck: no max line length
-- What the packs of this folder share, and how a pack is written.
--
-- A pack is a file NAME.lua that returns a table, and nothing is in reach of it: data, no code.
--    category, title      for events and lists
--    parts                pieces of expressions that its expressions use as <name> (small letters, digits, _); a pack's own
--                         part hides one of the same name from here
--    zh, en               per language: words = {...}, found as they stand, whole words where letters have borders;
--                         regex = {...} for libpcre2 (no capturing groups); allow = { words = {...}, regex = {...} }: what
--                         lies inside such a span is harmless. Letter case and full width do not matter: write half width
-- To change one, copy the file into a folder of yours and say perigee.filter.pack(name, { folder = "app/packs" }). To add
-- to what is allowed without a copy: { allow = {...} }. Bound every repetition, since text that could still become a match
-- is held back. Expressions that begin with the same parts (<ask><gap>) are made one and cost little more than one.
--
-- ask, zask: somebody wants something done, or offers to show how it is done; what wants it prevented, reported or treated
-- is left out. gap, near, zgap, znear: some words of the same sentence. trade, ztrade: something is offered or looked for.
-- context, zcontext: reports, law, medicine, history; what follows them in one sentence is allowed. after, zafter: none
-- of these follows.
return {
   gap = [[[^.!?\n]{0,40}?]],
   near = [[[^.!?\n]{0,18}?]],
   zgap = [[[^。!?\n]{0,12}?]],
   znear = [[[^。,!?\n]{0,6}?]],
   harmless = [[(?![^.!?\n]{0,40}\b(?:prevent|avoid(?!ing?,? (?:get|being|detect|caught)| (?:get|being|detect|caught))|report(?!er)|recogni[sz]|spot |protect|detect(?!ion)|stop |remov|treat|surviv|defend]]
      .. [[|support|identif|quit|talk (?:to|about)|awareness|victim|safe from|filter|block |combat|fight |legal))]],
   ask = [[\b(?:how (?:do|can|could|would|should|does|to|one|you|i|people)|ways? (?:to|of)|way is there|methods? (?:to|for|of)]]
      .. [[|steps? (?:to|for)|step[- ]by[- ]step|instructions? (?:to|for|on)|guide (?:to|for|on)|tutorial|recipe (?:for|to)]]
      .. [[|formula for|plan (?:to|is to|for)|planning to|tips (?:to|for|on)|teach(?:es)? |show (?:me|us|you)|tell (?:me|us)]]
      .. [[|help (?:me|us)|walk me|explain|describe|give me|i(?:'d| would) (?:like|love) to|i (?:want|need|intend)]]
      .. [[|i(?:'m| am) (?:going|about) to|let(?:'s| us) |where (?:can|do|could)|here(?:'s| is)|looking (?:for|to)]]
      .. [[|write |create |generate |make me |get me |list |provid|which |develop|design |produce |outline|instruct|compose|draft|publish|guidance]]
      .. [[|blueprints?|manual (?:for|on)|strateg|process (?:for|of)|educate|suggest|what (?:can|should|do|steps|are ways|kind)|what(?:'s| is) (?:the|a) |ways of|should i |need (?:a|an|to|the|some) |craft |who (?:sells|can|wants)|anyone )<harmless>]],
   trade = [[\b(?:buy(?:ing)?|sell(?:ing|s)?|for sale|order(?:ing)?|purchas(?:e|ing)|get|obtain|need|dealer|supplier|vendor]]
      .. [[|wholesale|shipping|in stock|cheap|deliver(?:ed|y)?)\b]],
   zharmless = [[(?![^。!?\n]{0,10}(?:防止|预防|防范|识别|辨别|辨认|举报|报警|避免|应对|治疗|戒|打击|保护|判|认定|维权|找回|取证|劝|救助|危害|安慰|教育]]
      .. [[|帮助|科普|揭秘|拒绝|远离|抵制|反对))]],
   zask = [[(?:怎么|怎样|如何|咋|教我|教你|教读者|教大家|教程|教会|帮我|给我|告诉我|想要?|我要|我们要|打算|准备|要求|求|谁有|谁能|哪里|哪儿|去哪|请写|写一|编写]]
      .. [[|提供|步骤|策划|计划|大家)<zharmless>]],
   zhow = [[(?:方法|步骤|教程|配方|流程|技巧|攻略|话术|诀窍|指南)]],
   ztrade = [[(?:出售|批发|代购|购买|收购|求购|现货|货到付款|到付|加微|加我|私聊|私信|联系|批量|低价|有货|出货|渠道|量大|包邮|送货|闪送|接单|转让|买|卖)]],
   context = [[\b(?:police|officers?|arrest(?:ed|s)?|court|judge|trial|sentenced|convicted|charged|accused|prosecutors?]]
      .. [[|suspects?|investigat\w+|seized|dismantled|officials?|according to|crime of|offences?|act of|laws?|illegal to|museum|histor\w+]]
      .. [[|century|novel|film|movie|patients?|doctors?|clinic|study|researchers?|prevention|hotline|awareness|charity)\b]],
   zcontext = [[(?:警方|民警|公安|法院|检察|刑法|条例|法律|律师|罪犯|嫌疑人|嫌犯|被告|查获|破获|捣毁|打击|抓获|缴获|逮捕|判处|被判|拘留|举报|谴责|严禁|禁止|防范|预防|警惕|提醒]]
      .. [[|诈骗案|揭秘|历史|博物馆|小说|电影|医生|患者|治疗|研究|科普|危害|远离|拒绝|专家|新闻|报道|追究|查处|立案|量刑|税务局|海关查|反派)]],
   after = [[(?![^.!?\n]{0,60}<context>|[^.!?\n]{0,60}\bcriminal)]],
   zafter = [[(?![^。!?\n]{0,24}<zcontext>)]],
   allowed = [[<context>[^.!?\n]{0,160}]],
   zallowed = [[<zcontext>[^。!?\n]{0,60}]],
}
