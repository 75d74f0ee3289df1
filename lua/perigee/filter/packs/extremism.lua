-- Terrorism, extremism, violent overthrow and secession; how a pack is written: common.lua here.
return {
   category = "extremism",
   title = "terrorism and extremism: joining, supporting, praising, planning; violent overthrow of a state",
   parts = {
      group = [[(?:isis|isil|islamic state|al[- ]?qaeda|al[- ]?shabaab|boko haram|taliban|hezbollah|the caliphate|terror(?:ist)? (?:group|cell|organi[sz]ation|network)s?]]
         .. [[|extremist groups?|militia cell|neo-?nazis?|the (?:third|fourth) reich|atomwaffen|ku klux klan)]],
      zgroup = [[(?:伊斯兰国|基地组织|恐怖组织|恐怖分子|ISIS|isis|东突|极端组织|暴恐组织|邪教|圣战组织|新纳粹)]],
   },
   en = {
      words = { "heil hitler", "sieg heil", "white power now", "gas the jews", "death to all infidels", "day of the rope" },
      regex = {
         [[\b(?:join|joining|support(?:ing)?|donat\w+(?: money)? to|fund|financ\w+|fight(?:ing)? for|recruit\w*<near>for|pledge (?:my )?allegiance to|contact|(?:send )?money to)<near>\b<group>\b<after>]],
         [[<ask><gap>\b(?:recruit\w*|propaganda|manifesto|radicali[sz]\w*)\b<gap>\b(?:<group>|terror\w*|extremis\w*|jihad\w*|nazi\w*|shooters?|young (?:men|people)|youth)\b]],
         [[\b(?:propaganda|recruitment)\b<near>\b(?:for|of)<near>\b<group>\b<after>]],
         [[<ask><gap>\b(?:terror(?:ist)? attacks?|suicide (?:bombing|attack)|lone[- ]wolf (?:attack|tactic)s?|mass shooting|massacre|truck attack|car[- ]ramming)\b]],
         [[\b(?:carry out|commit|launch|plan)\b<near>\b(?:terror(?:ist)? attack|suicide (?:bombing|attack)|mass shooting|massacre)\b<after>]],
         [[\b(?:death to|kill all|slaughter) (?:the |all )?(?:infidels|unbelievers|kuffar|apostates|non-believers)\b]],
         [[\b(?:shooter|gunman|bomber|terrorists?|attackers?|hitler|nazis)\b<near>\b(?:is|was|were|are) (?:a |an |our |true )?(?:heroes|hero|saints?|martyrs?|right|legend)\b]],
         [[\b(?:praising|praise|glorify(?:ing)?|celebrat\w+|in honou?r of)\b<near>\b(?:shooters?|terrorists?|gunm[ae]n|bombers?|hitler|massacre)\b]],
         [[\b(?:overthrow|topple|bring down)\b<near>\b(?:government|state|regime)\b<gap>\b(?:by force|take up arms|armed|violen\w+|weapons)\b]],
         [[<ask><gap>\b(?:armed (?:uprising|rebellion|revolt)|insurrection|violent(?:ly)? overthrow)\b]],
         [[\brace war\b<gap>\b(?:start|must|coming|now|begin|join)\b]],
         [[\b(?:third|fourth) reich\b<near>\b(?:will|shall|must) (?:rise|return)]],
         [[\bjihad is (?:the |our |a |every )?(?:duty|obligation)]],
         [[\b(?:drive|drove|ram)\b<near>\b(?:truck|car|van)\b<near>\binto (?:the|a) crowd\b<after>]],
      },
      allow = { regex = { "<allowed>" } },
   },
   zh = {
      words = { "希特勒万岁", "纳粹万岁", "圣战万岁", "暴恐音视频", "杀死异教徒", "杀死所有异教徒", "杀光异教徒", "武装夺取政权", "圣战教程" },
      regex = {
         [[(?:加入|参加|投奔|效忠|支持|资助|捐款|捐钱|招募|招聘|宣传|转账|联系)[^。!?\n]{0,8}<zgroup><zafter>]],
         [[<zgroup>[^。!?\n]{0,6}(?:招募|捐款|捐钱|转账|招人|入伙|万岁|宣传片|效忠)<zafter>]],
         [[<zask><zgap>(?:恐怖袭击|自杀式袭击|自杀式爆炸|独狼式?袭击|圣战|暴恐|武装暴乱|武装起义|暴力革命|极端主义|恐怖主义|纳粹思想)]],
         [[(?:推翻|颠覆|打倒|干掉)[^。!?\n]{0,4}(?:政府|国家政权|政权|现政权)(?!罪)<zafter>]],
         [[(?:武力|暴力|武装|流血)[^。!?\n]{0,4}(?:推翻|颠覆|分裂|夺取|独立|建国)(?!罪)<zafter>]],
         [[(?:圣战)[^。!?\n]{0,6}(?:义务|献身|光荣|方式|吧)<zafter>]],
         [[(?:恐怖分子|凶手|枪手|纳粹|希特勒)[^。!?\n]{0,6}(?:是|都是|才是)[^。!?\n]{0,4}(?:英雄|烈士|偶像|好人)]],
         [[(?:歌颂|赞美|致敬|美化|效仿)[^。!?\n]{0,6}(?:恐怖分子|恐怖袭击|枪击犯|凶手|纳粹|屠杀)<zafter>]],
         [[(?:纳粹|第三帝国)[^。!?\n]{0,4}(?:复兴|崛起|再起)]],
         [[(?:开车|驾车)[^。!?\n]{0,4}(?:冲撞|撞向|碾压)[^。!?\n]{0,4}人群[^。!?\n]{0,14}(?:圣战|大家|最)]],
         [[(?:传播|散布|下载)[^。!?\n]{0,6}(?:暴恐|极端主义|恐怖主义)(?:音|视频|思想|资料|宣传)<zafter>]],
      },
      allow = { words = { "圣战士" }, regex = { "<zallowed>" } },
   },
}
